"""Limits of clients: connections, turns, budgets, rates."""
