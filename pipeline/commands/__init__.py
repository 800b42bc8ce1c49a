"""The commands beside the main one, a file for each."""
