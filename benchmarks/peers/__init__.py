"""Trainings of one SAE by other packages, each run in a Python environment of its own."""
