"""Where quantizers go, how they train, how they are lowered for a target."""
