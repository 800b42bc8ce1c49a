"""Are the times of a run to be trusted? Sentences that say why not; none where nothing speaks against it.

variation   standard deviation over mean of the compute times of one process: 2.5 %, the limit at which NVIDIA's
            trtexec warns that GPU time is unstable. For GPUs alone: a processor that also runs an operating system
            is noisier than that, and the order statistics of a verdict take care of it
drift       medians of the first and the second half more than 2 % apart. A step of 2 % adds only 1 % to the variation,
            so the first rule does not see it; and at that rule's 2.5 %, two medians of 100 samples each differ by
            2 % by chance less than once in 100 000 runs (their difference has a deviation of 1.25 · 2.5 % · √(2/100)
            = 0.44 %)
state       a counter of throttling grew, a GPU says what holds its clocks down, power mode or clock limits changed
"""

from __future__ import annotations

from statistics import fmean, median, pstdev
from typing import Any, Mapping, Sequence

VARIATION_LIMIT = 0.025
DRIFT_LIMIT = 0.02
# Halves of 30 samples at 2.5 % differ by 2 % by chance in one run of 75, smaller ones more often: those are not judged.
SMALLEST_HALF = 30


def unstable(
    runs: Sequence[Mapping[str, Any]],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    variation_limit: float | None = VARIATION_LIMIT,
    drift_limit: float = DRIFT_LIMIT,
) -> list[str]:
    """Every reason, once: of each process that was timed, then of the device.

    runs: {"engine", "process", "compute_ms"} · before, after: states of power.py
    variation_limit: None where the variation of single times is no fault (processors)
    """
    found = []
    for run in runs:
        where = f"{run.get('engine', 'the engine')}, process {run.get('process', 0)}"
        times = [float(each) for each in run.get("compute_ms") or ()]
        found += [f"{where}: {why}" for why in unsteady(times, variation_limit, drift_limit)]
    return [*dict.fromkeys([*found, *disturbed(before, after)])]


def unsteady(times_ms: Sequence[float], variation_limit: float | None, drift_limit: float) -> list[str]:
    """What speaks against the times of one process, in the order they were taken."""
    found = []
    spread = variation(times_ms)
    if variation_limit is not None and spread > variation_limit:
        found.append(f"the times vary by {spread:.1%} of their mean, more than {variation_limit:.1%}.")
    moved = drift(times_ms)
    if abs(moved) > drift_limit:
        direction = "slower" if moved > 0 else "faster"
        found.append(f"the second half is {abs(moved):.1%} {direction} than the first, more than {drift_limit:.1%}.")
    return found


def variation(times_ms: Sequence[float]) -> float:
    """Standard deviation over mean."""
    mean = fmean(times_ms) if times_ms else 0.0
    return pstdev(times_ms) / mean if mean > 0 else 0.0


def drift(times_ms: Sequence[float]) -> float:
    """How much slower the second half's median is, as a share of the first's; 0 where the halves are too small."""
    half = len(times_ms) // 2
    if half < SMALLEST_HALF:
        return 0.0
    first, second = median(times_ms[:half]), median(times_ms[len(times_ms) - half :])
    return second / first - 1 if first > 0 else 0.0


def disturbed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What the device did in between."""
    found = []
    was, now = _name(before.get("power_mode")), _name(after.get("power_mode"))
    if was and now and was != now:
        found.append(f"the power mode changed from {was} to {now}.")
    for name, clock in (after.get("clocks") or {}).items():
        earlier = (before.get("clocks") or {}).get(name) or {}
        for limit, word in (("lowest_hz", "lowest"), ("highest_hz", "highest")):
            old, new = earlier.get(limit), clock.get(limit)
            if old is not None and new is not None and old != new:
                found.append(f"the {word} clock of {name} changed from {old / 1e6:g} to {new / 1e6:g} MHz.")
        if name == "gpu" and _held(earlier) and _held(clock) and _below(clock):
            found.append(f"{name} is locked at {clock['highest_hz'] / 1e6:g} MHz and ran at {clock['now_hz'] / 1e6:g}.")
    for name, count in (after.get("throttling") or {}).items():
        grown = count - (before.get("throttling") or {}).get(name, 0)
        if grown > 0:
            found.append(f"the device throttled: {name} rose by {grown}.")
    for number, gpu in enumerate(after.get("gpus") or ()):
        for reason in gpu.get("held_down_by") or ():
            found.append(f"the clocks of GPU {number} ({gpu.get('name')}) are held down by {reason}.")
    return found


def _held(clock: Mapping[str, Any]) -> bool:
    """Whether somebody set lowest = highest."""
    return clock.get("lowest_hz") is not None and clock.get("lowest_hz") == clock.get("highest_hz")


def _below(clock: Mapping[str, Any]) -> bool:
    """A GPU that sleeps says 0."""
    return 0 < (clock.get("now_hz") or 0) < 0.99 * float(clock["highest_hz"])


def _name(mode: Any) -> str | None:
    return str(mode["name"]) if isinstance(mode, dict) and mode.get("name") else None
