"""Which neurons fire on the prompts and texts of a request."""
