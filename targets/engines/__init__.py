"""The runtimes that answer a batch."""
