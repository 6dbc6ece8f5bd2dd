"""Files of language models, looked at without torch."""
