"""Training SAEs."""
