"""Files that the server writes and reads: atomic, inside their directories, with their provenance."""
