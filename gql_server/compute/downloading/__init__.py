"""Getting language models and texts from the Hugging Face Hub, each in a process of its own."""
