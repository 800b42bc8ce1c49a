"""The journey of a model: from a trained FP32 teacher to a bundle with an engine."""
