"""One distillation method per file."""
