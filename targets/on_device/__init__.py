"""The part that runs on a device: the standard library alone, Python 3.8 and up, sent over as one file."""
