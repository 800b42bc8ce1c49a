"""THE loop of the gate: a fresh process after the other, a look at the times fixed beforehand, then the verdict."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import Any

from pipeline.gate.outcome import Finding, Line, finding_of, percent
from pipeline.progress import Progress, Quiet
from targets.engines.fresh_processes import Sitting
from targets.errors import DeviceChanged, DeviceLost, DeviceMissing, TargetsError, TimesRefused
from targets.paired_ratio import Estimate, Looks, estimate_from, log_ratio_of_sitting
from targets.stopwatch import now_s

Measure = Callable[[int], Sequence[Sitting]]  # one fresh process, drawn by seed


@dataclass(frozen=True)
class Limits:
    """The most that a candidate may have more than the baseline, as ratios; None: reported and not judged."""

    latency: float = 1.02
    p99: float | None = None
    load: float | None = None
    memory: float | None = None
    size: float | None = None
    instructions: float | None = None
    accuracy_points: float | None = None


@dataclass
class Sampled:
    """What was measured until now.

    processes: of each its sittings, the baseline first in each of them
    log_ratios: log(candidate / baseline) of each process, the mean of its sittings, by the clock of the gate
    """

    clock: str
    processes: list[Sequence[Sitting]] = field(default_factory=list)
    log_ratios: list[float] = field(default_factory=list)
    seconds: float = 0.0
    looks: int = 0
    stopped: str = ""  # why it ended before anything could be decided

    def add(self, process: Sequence[Sitting]) -> None:
        """One more process."""
        self.processes.append(process)
        self.log_ratios.append(log_ratio_of(process, self.clock))

    def estimate(self, error_rate: float) -> Estimate:
        """The latency's ratio, by the clock of the gate."""
        return estimate_from(self.log_ratios, error_rate=error_rate)

    def milliseconds(self, place: int, clock: str = "wall_ms") -> list[float]:
        """All times of one engine."""
        return [ms for process in self.processes for each in process for ms in times_of(each, clock)[place]]

    @property
    def turns(self) -> int:
        """How many turns each engine had."""
        return sum(len(each.wall_ms[0]) // each.timed for process in self.processes for each in process)


def log_ratio_of(process: Sequence[Sitting], clock: str) -> float:
    """log(candidate / baseline) of a process: the mean of its sittings."""
    return fmean(log_ratio_of_sitting(*times_of(each, clock), timed=each.timed) for each in process)


def times_of(sitting: Sitting, clock: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The times of both engines in a sitting, by the processor's clock or the wall's."""
    return sitting.cpu_ms if clock == "cpu_ms" else sitting.wall_ms


Judge = Callable[[Sampled, float], Sequence[Line]]  # the lines that rest on samples, at this error rate


def sampled_until_decided(
    measure: Measure, judge: Judge, *, clock: str, max_seconds: float, looks: Looks, seed: int,
    progress: Progress | None = None, waiting: Callable[[], int] = lambda: 0, now: Callable[[], float] | None = None,
) -> tuple[Sampled, tuple[Line, ...]]:  # fmt: skip
    """Processes one by one; at every look the lines are judged, and when all are decided no more are started.

    waiting: how many processes have ended that `measure` has yet to give: those cost no time
    now: the clock by which looks are due; None: the stopwatch's

    Raises:
        TargetsError: an engine fails in two processes running, or a device goes away; what was found until then is in
            the sentence. A device that does not stay as it is ends the gate, and nothing is decided.
    """
    shown = progress or Quiet()
    found = Sampled(clock)
    lines: tuple[Line, ...] = ()
    tick = now or now_s
    started = tick()
    for look, part in enumerate(looks.at):
        while not found.processes or waiting() or tick() - started < part * max_seconds:
            try:
                found.add(_one(measure, seed + len(found.processes), found))
            except DeviceChanged as changed:
                found.stopped, found.seconds = str(changed), tick() - started
                judged = judge(found, looks.spent(look)) if found.processes else ()
                return found, tuple(undecided_for(found.stopped, line) for line in judged)
            found.seconds = tick() - started
            shown.advance(min(found.seconds, max_seconds), max_seconds, note_of(found))
        found.looks = look + 1
        lines = tuple(judge(found, looks.spent(look)))
        if decided(lines):
            break
    return found, lines


def decided(lines: Sequence[Line]) -> bool:
    """Whether more samples would change nothing: one line has regressed, or none is undecided."""
    found = {line.finding for line in lines}
    return Finding.REGRESSED in found or Finding.UNDECIDED not in found


def undecided_for(why: str, line: Line) -> Line:
    """A line that somebody set a limit on, left open for this reason; the numbers stay."""
    if line.finding is Finding.REPORTED:
        return line
    return replace(line, finding=Finding.UNDECIDED, why=f"{why} Until then: {line.why}")


def note_of(found: Sampled) -> str:
    """What the progress says."""
    middle = math.exp(median(found.log_ratios))
    return f"timing in turns: {len(found.log_ratios)} processes, latency {percent(middle)}"


def _one(measure: Measure, seed: int, found: Sampled) -> Sequence[Sitting]:
    """A process; a second one where the first fails: one that was killed from outside must not end a gate.

    A device has been waited for already where it was lost, and times that are refused once are refused again.
    """
    try:
        try:
            return measure(seed)
        except (DeviceChanged, DeviceLost, DeviceMissing, TimesRefused):
            raise
        except TargetsError:
            return measure(seed)
    except DeviceChanged:
        raise
    except TargetsError as error:
        done = len(found.processes)
        if not done:
            raise
        said = f"{done} processes" if done > 1 else "1 process"
        raise type(error)(f"{error} Before that {said} had found {percent(found.estimate(0.01).ratio)}.") from error


def latency_line(found: Sampled, *, limit: float, error_rate: float) -> Line:
    """The line that the gate is about."""
    taken = found.estimate(error_rate)
    low, high = taken.interval.low, taken.interval.high
    base, cand = (median(found.milliseconds(place, found.clock)) for place in (0, 1))
    known = _finite(low), _finite(high)
    clock = "processor time" if found.clock == "cpu_ms" else "time of day"
    why = f"by {clock}, {taken.processes} fresh processes with {found.turns} turns of each engine"
    if known[1] is None:
        why += "; too few processes for an interval"
    return Line("latency", "ms", base, cand, "ratio", taken.ratio, *known, limit, finding_of(*known, limit=limit), why)


def _finite(value: float) -> Any:
    return value if 0 < value < float("inf") else None
