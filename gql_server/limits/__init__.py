"""What clients may take of the server: connections, turns, budgets, rates."""
