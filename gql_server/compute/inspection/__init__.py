"""Which neurons fire on prompts and texts that somebody asks about."""
