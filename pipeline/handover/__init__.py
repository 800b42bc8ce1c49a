"""What is copied into a bundle and runs there alone: plain Python, numpy and onnxruntime."""
