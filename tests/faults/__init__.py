"""Kills workers and servers at random moments, and looks what was lost, repeated or left behind."""
