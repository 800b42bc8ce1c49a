"""The devices, and what can be measured on them."""
