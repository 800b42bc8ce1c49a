"""How often a latency gate is right: engines slowed down by a known share, gates on them, and what one does by hand."""
