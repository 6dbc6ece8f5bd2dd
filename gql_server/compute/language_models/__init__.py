"""Language models: loading them, their layers, forward passes, and tokens."""
