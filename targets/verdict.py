"""One budget line against one measurement: met, missed or undecided, and why.

    bound inside the whole interval   → met         (the upper end is within a ceiling; the lower end reaches a floor)
    bound outside the whole interval  → missed
    anything else                     → undecided, with what would settle it

A number that is missing, or that was taken on another machine than the target, is undecided by definition.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from targets.budget import Budget, Direction, Limit, limit_kind
from targets.intervals import Interval, paired_drop_interval, samples_for_upper_bound
from targets.measurement import Accuracy, Conditions, Measurement, interval_as_json
from targets.reach.reached import is_emulated

BYTES_PER_MB = 1e6
TIMED = ("max_latency_ms", "min_speedup")  # the limits that rest on times


class Outcome(Enum):
    """The three answers."""

    MET = "met"
    MISSED = "missed"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Verdict:
    """What became of one limit. Measured and interval are in the limit's own unit."""

    limit: str
    bound: float
    measured: float | None
    interval: Interval | None
    outcome: Outcome
    why: str
    origin: str

    def as_json(self) -> dict[str, Any]:
        """For measurements.json and --json."""
        return {
            "limit": self.limit,
            "bound": self.bound,
            "measured": self.measured if self.measured is not None and math.isfinite(self.measured) else None,
            "interval": interval_as_json(self.interval) if self.interval else None,
            "verdict": self.outcome.value,
            "why": self.why,
            "origin": self.origin,
        }


def overall_exit_code(verdicts: Sequence[Verdict]) -> int:
    """1 if a budget is missed, 3 if none is but one is undecided, else 0."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if Outcome.MISSED in outcomes:
        return 1
    return 3 if Outcome.UNDECIDED in outcomes else 0


def verdicts_on(measurement: Measurement, *, budget: Budget, teacher: Accuracy | None = None) -> tuple[Verdict, ...]:
    """Every limit of the budget held against this measurement; the accuracy drop is from `teacher`."""
    return tuple(_verdict_on(limit, measurement, teacher) for limit in budget.limits)


def judge(
    limit: Limit, *, measured: float, interval: Interval, conditions: Conditions | None, samples: int, least: int = 0
) -> Verdict:
    """The limit against a figure and its interval, both in the limit's unit.

    samples: how many the figure rests on; 0 for one that is exact (a file size)
    least: how many it takes before the interval has two ends
    """
    kind = limit_kind(limit.name)
    seen = f"{measured:.4g} {kind.unit}, {kind.direction.value} {limit.bound:.4g} {kind.unit}"

    def answer(outcome: Outcome, why: str) -> Verdict:
        return Verdict(limit.name, limit.bound, measured, interval, outcome, why, limit.origin)

    if not math.isfinite(measured):
        return answer(Outcome.UNDECIDED, f"the figure is {measured}, which says nothing")
    if conditions is None:
        return answer(Outcome.UNDECIDED, "the conditions of the measurement were not recorded")
    if not conditions.on_target:
        where = "an emulated processor" if is_emulated(conditions.device or {}) else conditions.machine
        return answer(Outcome.UNDECIDED, f"measured on {where}, not on {conditions.target}: measure on the target")
    if conditions.unstable and limit.name in TIMED:
        return answer(Outcome.UNDECIDED, f"the times are not to be believed: {'; '.join(conditions.unstable)}")
    ceiling = kind.direction is Direction.AT_MOST
    if interval.high <= limit.bound if ceiling else interval.low >= limit.bound:
        return answer(Outcome.MET, seen)
    if interval.low > limit.bound if ceiling else interval.high < limit.bound:
        return answer(Outcome.MISSED, seen)
    return answer(Outcome.UNDECIDED, _what_would_settle(limit.bound, measured, interval, samples=samples, least=least))


def _verdict_on(limit: Limit, measurement: Measurement, teacher: Accuracy | None) -> Verdict:
    conditions = measurement.conditions
    if limit.name == "max_latency_ms":
        latency = measurement.latency
        if latency is None:
            return _without(limit, measurement.missing["latency"])
        return judge(
            limit, measured=latency.p99_ms, interval=latency.p99_interval_ms(), conditions=latency.conditions,
            samples=len(latency.samples_ms), least=samples_for_upper_bound(0.99),
        )  # fmt: skip
    if limit.name == "min_speedup":
        pairs = measurement.pairs
        if pairs is None:
            return _without(limit, measurement.missing["pairs"])
        return judge(
            limit, measured=pairs.speedup, interval=pairs.speedup_interval(), conditions=conditions,
            samples=len(pairs.candidate_ms),
        )  # fmt: skip
    if limit.name == "max_accuracy_drop_points":
        return _verdict_on_drop(limit, measurement, teacher)
    name = "size_bytes" if limit.name == "max_size_mb" else "peak_memory_bytes"
    count = measurement.size_bytes if limit.name == "max_size_mb" else measurement.peak_memory_bytes
    if count is None:
        return _without(limit, measurement.missing[name])
    figure = count / BYTES_PER_MB
    return judge(limit, measured=figure, interval=Interval(figure, figure), conditions=conditions, samples=0)


def _verdict_on_drop(limit: Limit, measurement: Measurement, teacher: Accuracy | None) -> Verdict:
    accuracy = measurement.accuracy
    if accuracy is None:
        return _without(limit, measurement.missing["accuracy"])
    if teacher is None:
        return _without(limit, "the teacher's accuracy was not measured")
    if teacher.n != accuracy.n:
        return _without(
            limit, f"the teacher answered {teacher.n} inputs and this model {accuracy.n}: not the same ones"
        )
    return judge(
        limit, measured=100 * (teacher.value - accuracy.value),
        interval=paired_drop_interval(teacher.scores, accuracy.scores),
        conditions=measurement.conditions, samples=accuracy.n,
    )  # fmt: skip


def _without(limit: Limit, why: str) -> Verdict:
    said = why if why.startswith("not measured") else f"not measured: {why}"
    return Verdict(limit.name, limit.bound, None, None, Outcome.UNDECIDED, said, limit.origin)


def _what_would_settle(bound: float, measured: float, interval: Interval, *, samples: int, least: int) -> str:
    """In samples, where more of them can settle it: the interval shrinks with their square root."""
    if samples < least:
        return f"needs {least} samples, has {samples}"
    # Towards the bound: above the figure the upper end must come down to it, below it the lower end must come up.
    end, distance = (interval.high, bound - measured) if bound >= measured else (interval.low, measured - bound)
    straddles = (
        f"the bound lies within {_end(interval.low)} to {_end(interval.high)}, the interval of {samples} samples"
    )
    if distance <= 0 or not math.isfinite(end):
        return f"{straddles}: take more samples"
    needed = math.ceil(samples * ((end - measured) / distance) ** 2)
    if needed > 100 * samples:
        return f"{straddles}, and the figure is too close to the bound for more samples to settle it"
    return f"{straddles}: needs about {max(needed, samples + 1)} samples, has {samples}"


def _end(number: float) -> str:
    return f"{number:.4g}" if math.isfinite(number) else "unknown"
