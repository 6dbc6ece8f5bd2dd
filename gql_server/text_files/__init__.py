"""Reading texts out of files that people have, row by row."""
