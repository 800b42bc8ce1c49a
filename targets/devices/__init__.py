"""One device per file."""
