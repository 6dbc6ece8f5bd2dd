"""Processes and threads beside the event loop, and their limits."""
