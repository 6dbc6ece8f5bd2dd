"""Capturing activations."""
