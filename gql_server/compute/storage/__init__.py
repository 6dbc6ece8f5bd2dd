"""What captures have stored: LocalStore made safe, the rows in it that count, and their texts."""
