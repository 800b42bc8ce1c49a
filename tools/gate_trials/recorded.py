"""One trial: processes recorded until the gates of every budget of seconds have ended, and those gates replayed.

A gate of 30 s is the beginning of one of 60 s but for its looks, so both are judged on one recording: the loop of the
gate itself (`sampled_until_decided`) is given the recorded processes and their times of day.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.gate.gate import Measure, Sampled, latency_line, log_ratio_of, sampled_until_decided
from pipeline.gate.outcome import Line
from targets.engines.fresh_processes import Sitting
from targets.paired_ratio import Looks
from targets.stopwatch import now_s


@dataclass(frozen=True)
class Ended:
    """How a gate ended. seconds: of sampling · looks: taken."""

    finding: str
    seconds: float
    looks: int
    processes: int


class Exhausted(Exception):
    """The recording ends before the gate does."""


def recorded_trial(
    measure: Measure, *, seconds: Sequence[float], limit: float, seed: int
) -> tuple[list[tuple[float, float]], dict[float, Ended]]:
    """(end in s, log ratio) of each process, and how the gate of each budget of seconds ended."""
    rows: list[tuple[float, float]] = []
    started = now_s()
    while True:
        process = measure(seed + len(rows))
        rows.append((now_s() - started, log_ratio_of(process, "cpu_ms")))
        try:
            return rows, {each: replayed(rows, max_seconds=each, limit=limit) for each in seconds}
        except Exhausted:
            continue


def replayed(
    rows: Sequence[tuple[float, float]], *, max_seconds: float, limit: float, looks: Looks | None = None
) -> Ended:
    """The gate of so many seconds on this recording.

    Raises:
        Exhausted: it would have gone on.
    """
    place = 0

    def measure(_: int) -> tuple[Sitting, ...]:
        nonlocal place
        if place == len(rows):
            raise Exhausted
        place += 1
        times = ((1.0,), (math.exp(rows[place - 1][1]),))
        return (Sitting((1.0, 1.0), times, times, 1),)

    def judge(found: Sampled, error_rate: float) -> tuple[Line, ...]:
        return (latency_line(found, limit=limit, error_rate=error_rate),)

    def now() -> float:
        return rows[place - 1][0] if place else 0.0

    found, lines = sampled_until_decided(
        measure, judge, clock="cpu_ms", max_seconds=max_seconds, looks=looks or Looks(), seed=0, now=now
    )
    return Ended(lines[0].finding.value, now(), found.looks, len(found.processes))
