"""One recipe per file; a recipe is Python, read top to bottom."""
