"""One way to choose a range per file."""
