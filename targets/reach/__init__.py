"""How a device is reached."""
