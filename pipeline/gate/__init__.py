"""The latency gate: whether a change made an engine slower, on a machine that is not quiet."""
