"""From representative inputs to the ranges of activations."""
