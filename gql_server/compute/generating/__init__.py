"""Text, with or without steering."""
