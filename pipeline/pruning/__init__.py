"""Which channels may go together, how much each matters, and how many go."""
