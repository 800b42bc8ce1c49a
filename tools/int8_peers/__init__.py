"""The quantizers that tools/compare_int8.py puts side by side: a file each, and what they share."""
