"""What a gate found: a line per quantity, each with its interval and its verdict, and the verdict on the whole.

A line compares the candidate with the baseline. Most are ratios, candidate over baseline: 1.03 is three percent more,
which is worse, whatever the quantity. `accuracy` is a drop in points: baseline minus candidate.

    whole interval above what is allowed   → regressed
    whole interval within what is allowed  → fine
    anything else                          → undecided
    nobody set a limit                     → reported
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

SCHEMA = 1


class Finding(Enum):
    """The answers of a gate; `reported` for a line that nobody set a limit on."""

    FINE = "fine"
    REGRESSED = "regressed"
    UNDECIDED = "undecided"
    REPORTED = "reported"


@dataclass(frozen=True)
class Line:
    """One quantity of both engines.

    name: latency, p50, p99, load time, peak memory, file size, instructions or accuracy
    unit: of baseline and candidate: ms, MB, instructions, %
    nature: ratio (candidate / baseline) or drop (baseline − candidate, in points); change, low, high: that one, with
        its interval; low = high = change where it is exact; None where it is not known
    limit: the most that is allowed, in the nature's terms (1.02, or 0.5 points); None: nobody asked
    why: one sentence for the reader
    """

    name: str
    unit: str
    baseline: float | None
    candidate: float | None
    nature: str
    change: float | None
    low: float | None
    high: float | None
    limit: float | None
    finding: Finding
    why: str

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        told = asdict(self) | {"finding": self.finding.value}
        return {name: _finite(value) for name, value in told.items()}


@dataclass(frozen=True)
class Gate:
    """Everything that a gate has to say.

    baseline, candidate: the bundles as the user named them · target: of both · device: where they ran, or None
    lines: the first is the latency that --max-regression is about
    process_ratios: candidate / baseline of each fresh process · baseline_ms, candidate_ms: wall times, for the picture
    looks, looks_planned: how many were taken of those fixed beforehand · error_rate: of a wrong verdict, per line
    smallest_seen: the least slow-down that these measurements would have called regressed in 19 of 20 runs, as a ratio;
        None where nothing was measured
    conditions: of the machine, as in a measurement · remarks: what the reader must know, a sentence each
    """

    baseline: str
    candidate: str
    target: str
    device: str | None
    lines: tuple[Line, ...]
    process_ratios: tuple[float, ...] = ()
    baseline_ms: tuple[float, ...] = ()
    candidate_ms: tuple[float, ...] = ()
    turns: int = 0
    seconds: float = 0.0
    looks: int = 0
    looks_planned: int = 0
    error_rate: float = 0.01
    smallest_seen: float | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def finding(self) -> Finding:
        """Regressed if one line is; else undecided if one is; else fine."""
        found = {line.finding for line in self.lines}
        for answer in (Finding.REGRESSED, Finding.UNDECIDED):
            if answer in found:
                return answer
        return Finding.FINE

    def exit_code(self, *, undecided: str = "undecided") -> int:
        """0 fine, 1 regressed, 3 undecided; `undecided` may say pass (0) or fail (1) instead."""
        codes = {"undecided": 3, "pass": 0, "fail": 1}
        return {Finding.FINE: 0, Finding.REGRESSED: 1, Finding.UNDECIDED: codes[undecided]}[self.finding]

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "schema": SCHEMA,
            "baseline": self.baseline,
            "candidate": self.candidate,
            "target": self.target,
            "device": self.device,
            "finding": self.finding.value,
            "lines": [line.as_json() for line in self.lines],
            "smallest_seen": _finite(self.smallest_seen),
            "error_rate": self.error_rate,
            "looks": self.looks,
            "looks_planned": self.looks_planned,
            "processes": len(self.process_ratios),
            "turns": self.turns,
            "seconds": round(self.seconds, 3),
            "process_ratios": list(self.process_ratios),
            "conditions": dict(self.conditions),
            "remarks": list(self.remarks),
        }


def finding_of(low: float | None, high: float | None, *, limit: float | None) -> Finding:
    """Where an interval lies to the most that is allowed. An unknown end decides nothing."""
    if limit is None:
        return Finding.REPORTED
    if low is not None and low > limit:
        return Finding.REGRESSED
    if high is not None and high <= limit:
        return Finding.FINE
    return Finding.UNDECIDED


def percent(change: float) -> str:
    """1.0312 → "+3.12 %"."""
    return f"{100 * (change - 1):+.2f} %"


def only(lines: Sequence[Line], name: str) -> Line:
    """The line of this name."""
    return next(line for line in lines if line.name == name)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
