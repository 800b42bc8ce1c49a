"""Lines that nobody could measure: no device was given, or its processor is emulated. What has a limit is undecided."""

from pipeline.gate.gate import Limits
from pipeline.gate.outcome import Finding, Line
from targets.errors import TimesRefused
from targets.reach.reached import refuse_emulated
from targets.target import Target


def why_not_timed(target: Target) -> str:
    """Why no time that is taken now says something of the target; "" where one does."""
    if not target.is_here():
        return (
            f"not measured: no {target.name} was reached. Name the device that both engines are for: --device ADDRESS."
        )
    if target.device is not None:
        try:
            refuse_emulated(target.device)
        except TimesRefused as refused:
            return f"{refused}."
    return ""


def unmeasured_lines(limits: Limits, why: str) -> tuple[Line, ...]:
    """The latency, and whatever else of time and memory has a limit."""
    asked = (("p99", "ms", limits.p99), ("load time", "ms", limits.load), ("peak memory", "MB", limits.memory))
    lines = [unmeasured_line("latency", "ms", limits.latency, why)]
    for name, unit, limit in asked:
        if limit is not None:
            lines.append(unmeasured_line(name, unit, limit, why))
    return tuple(lines)


def unmeasured_line(name: str, unit: str, limit: float | None, why: str) -> Line:
    """A ratio without numbers."""
    finding = Finding.REPORTED if limit is None else Finding.UNDECIDED
    return Line(name, unit, None, None, "ratio", None, None, None, limit, finding, why)
