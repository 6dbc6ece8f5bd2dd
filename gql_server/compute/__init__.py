"""Everything that needs torch, transformers or mi_crow. Runs in worker processes only."""
