"""eai-sparsify (EleutherAI/sparsify)."""
