"""The demo: a client of the public API that goes from a language model to steered text, step by step."""
