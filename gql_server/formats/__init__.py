"""Formats of SAEs, read without torch."""
