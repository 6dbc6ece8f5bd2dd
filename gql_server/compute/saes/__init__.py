"""SAEs: classes and engines, those that a worker keeps loaded, and hooks that put them into a model."""
