"""Torch to ONNX, and what is read or rewritten in an ONNX graph."""
