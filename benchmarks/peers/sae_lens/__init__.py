"""SAELens."""
