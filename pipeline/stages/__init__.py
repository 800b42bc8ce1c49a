"""One file per step: distill, prune, quantize, export, build."""
