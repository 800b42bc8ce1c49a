"""The lines beside the latency: p50, p99, load time, peak memory and file size, each with a limit of its own or none.

p50 and p99 are of the time of day and of all calls, slow ones too; their ratios' intervals come from drawing whole
processes with replacement (percentile bootstrap over clusters; Davison & Hinkley 1997, "Bootstrap Methods and their
Application", section 3.8), for a quantile of few late calls is no median of processes. The load time of a process is
the median of its openings, and its interval that of the latency (targets/paired_ratio.py). A file's size is exact.
"""

import math
from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from pipeline.gate.gate import Limits, Sampled
from pipeline.gate.outcome import Finding, Line, finding_of
from pipeline.gate.pair import Pair
from targets.errors import DeviceLost, TargetsError
from targets.intervals import samples_for_upper_bound
from targets.paired_ratio import estimate_from

RESAMPLES = 2000
BYTES_PER_MB = 1e6
MEMORY_RUNS, MEMORY_RUNS_JUDGED = 3, 8  # of each engine, in turns; with 8 an end of the interval is wrong once in 256


def quantile_line(name: str, q: float, found: Sampled, *, limit: float | None, error_rate: float, seed: int) -> Line:
    """p50 or p99 of all calls, by the time of day."""
    per_process = [
        [np.concatenate([np.asarray(each.wall_ms[place]) for each in process]) for place in (0, 1)]
        for process in found.processes
    ]
    base, cand = (float(np.quantile(np.concatenate([both[place] for both in per_process]), q)) for place in (0, 1))
    ratios = bootstrap_ratios(per_process, q, resamples=RESAMPLES, seed=seed)
    low, high = (float(each) for each in np.quantile(ratios, (error_rate, 1 - error_rate)))
    calls = sum(len(both[0]) for both in per_process)
    why = f"of {calls} calls of each engine, by the time of day"
    finding = finding_of(low, high, limit=limit)
    if len(per_process) < 5 or calls * (1 - q) < samples_for_upper_bound(0.99) * 0.01:
        why += "; too few for an interval"
        finding, low, high = finding_of(None, None, limit=limit), math.nan, math.nan
    return Line(name, "ms", base, cand, "ratio", cand / base, _known(low), _known(high), limit, finding, why)


def bootstrap_ratios(
    per_process: Sequence[Sequence[NDArray[np.float64]]], q: float, *, resamples: int, seed: int
) -> NDArray[np.float64]:
    """The ratio of both q-quantiles in so many draws of whole processes with replacement."""
    draw = np.random.default_rng(seed)
    chosen = draw.integers(0, len(per_process), (resamples, len(per_process)))
    quantiles = []
    for place in (0, 1):
        values = np.concatenate([both[place] for both in per_process])
        owner = np.repeat(np.arange(len(per_process)), [len(both[place]) for both in per_process])
        order = np.argsort(values, kind="stable")
        values, owner = values[order], owner[order]
        found = np.empty(resamples)
        for row in range(resamples):  # a call counts as often as its process was drawn
            weight = np.cumsum(np.bincount(chosen[row], minlength=len(per_process))[owner])
            found[row] = values[np.searchsorted(weight, q * weight[-1])]
        quantiles.append(found)
    ratios: NDArray[np.float64] = quantiles[1] / quantiles[0]
    return ratios


def load_line(found: Sampled, *, limit: float | None, error_rate: float) -> Line:
    """How long it takes to open the engine file; the files were read before."""
    loads = [[median(each.load_ms[place] for each in process) for place in (0, 1)] for process in found.processes]
    taken = estimate_from([math.log(cand / base) for base, cand in loads], error_rate=error_rate)
    low, high = _known(taken.interval.low), _known(taken.interval.high)
    base, cand = (median(each[place] for each in loads) for place in (0, 1))
    why = f"opened {sum(map(len, found.processes))} times each, in {taken.processes} processes"
    return Line(
        "load time", "ms", base, cand, "ratio", taken.ratio, low, high, limit, finding_of(low, high, limit=limit), why
    )


def size_line(pair: Pair, *, limit: float | None) -> Line:
    """Bytes of both engine files."""
    base, cand = (side.path.stat().st_size for side in pair.sides)
    ratio = cand / base
    return Line(
        "file size", "MB", base / BYTES_PER_MB, cand / BYTES_PER_MB, "ratio", ratio, ratio, ratio, limit,
        finding_of(ratio, ratio, limit=limit), "of the engine files",
    )  # fmt: skip


def memory_line(pair: Pair, *, limit: float | None, error_rate: float) -> Line:
    """The peak of processes that hold one engine each, in turns."""
    runs = MEMORY_RUNS if limit is None else MEMORY_RUNS_JUDGED
    peaks: list[list[float]] = [[], []]
    try:
        for _ in range(runs):
            for place, side in enumerate(pair.sides):
                peaks[place].append(side.engine.peak_memory(side.path, pair.inputs, threads=pair.threads))
    except DeviceLost:
        raise
    except (TargetsError, OSError) as error:
        finding = Finding.REPORTED if limit is None else Finding.UNDECIDED
        return Line(
            "peak memory", "MB", None, None, "ratio", None, None, None, limit, finding, f"not measured: {error}"
        )
    taken = estimate_from(
        [math.log(cand / base) for base, cand in zip(*peaks, strict=True)], error_rate=max(error_rate, 2.0**-runs)
    )
    low, high = taken.interval.low, taken.interval.high
    base, cand = (median(each) / BYTES_PER_MB for each in peaks)
    return Line(
        "peak memory", "MB", base, cand, "ratio", taken.ratio, low, high, limit, finding_of(low, high, limit=limit),
        f"of a process that holds one engine and answers once, {runs} of each in turns",
    )  # fmt: skip


def sampled_lines(found: Sampled, limits: Limits, latency: Line, *, error_rate: float, seed: int) -> tuple[Line, ...]:
    """The latency, and the lines that rest on the same samples."""
    return (
        latency,
        quantile_line("p50", 0.5, found, limit=None, error_rate=error_rate, seed=seed),
        quantile_line("p99", 0.99, found, limit=limits.p99, error_rate=error_rate, seed=seed),
        load_line(found, limit=limits.load, error_rate=error_rate),
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None
