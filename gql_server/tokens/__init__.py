"""Tokens without torch: which are written around a text, and what stretch of it each stands for."""
