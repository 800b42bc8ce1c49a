"""TensorRT through the device's own Python package."""
