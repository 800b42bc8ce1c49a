"""One data set per file, and how inputs are prepared."""
