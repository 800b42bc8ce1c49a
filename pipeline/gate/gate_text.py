"""A gate for a terminal (thin)."""

from pipeline.gate.outcome import Gate


def gate_text(gate: Gate) -> str:
    """Lines."""
    return "\n".join([gate.finding.value] + [str(line) for line in gate.lines] + list(gate.remarks)) + "\n"
