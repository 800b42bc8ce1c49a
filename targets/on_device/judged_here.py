"""Budgets of time, judged on the device by order statistics; nothing is assumed of how times are distributed.

David & Nagaraja 2003, "Order Statistics", section 7.1, as in targets/intervals.py, without numpy. With
B ~ Binomial(n, q) and x₁ ≤ … ≤ xₙ: high = x_r for the smallest r with P(B ≤ r−1) ≥ c, low = x_l for the largest l
with P(B ≤ l−1) ≤ 1 − c.

Letters: n samples, q quantile, c confidence.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OUTCOMES = {"met": 0, "missed": 1, "undecided": 3}
CODES = {
    "float16": "e", "float32": "f", "float64": "d", "bool": "?", "int8": "b", "uint8": "B", "int32": "i", "int64": "q",
}  # fmt: skip
CONFIDENCE, OF_EACH_MEDIAN = 0.95, 0.975  # of a speed-up each median has half of the 5 %


def judged(order: Mapping[str, Any], evidence: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """A row per limit: limit, bound, origin, verdict, why."""
    times = evidence.get("times") or {}
    samples = {name: times_of(times, name) for name in times.get("order", ())}
    first = next(iter(samples), None)
    rows = []
    for limit in order["limits"]:
        row = {**limit, "verdict": "undecided", "why": "`compress build` tells, where the program is"}
        if limit["limit"] in ("max_latency_ms", "min_speedup"):
            if first is None or times.get("failed") or not samples[first]:
                row["why"] = f"not measured: {times.get('failed', 'there are no times')}"
            elif times.get("unstable"):
                row["why"] = f"the times are not to be believed: {'; '.join(times['unstable'])}"
            elif limit["limit"] == "max_latency_ms":
                low, high = quantile_bounds(samples[first], 0.99, CONFIDENCE)
                row.update(held(limit["bound"], nearest(samples[first], 0.99), low, high, ceiling=True, unit="ms"))
            elif samples.get("teacher"):
                row.update(held(limit["bound"], *speedup(samples["teacher"], samples[first]), ceiling=False, unit="x"))
            else:
                row["why"] = "not measured: the teacher has no engine here"
        elif limit["limit"] == "max_accuracy_drop_points":
            row["why"] = accuracy_words(order, evidence, folder) + "; `compress build` judges it"
        rows.append(row)
    return rows


def times_of(times: Mapping[str, Any], name: str) -> list[float]:
    """The times of one engine from all processes, in ms."""
    own = [run for run in times["runs"] if str(run["engine"]).split(".")[0] == name]  # files are called by their engine
    return [float(each) for run in own for each in run.get("latency_ms") or run.get("compute_ms") or ()]


def held(bound: float, figure: float, low: float, high: float, *, ceiling: bool, unit: str) -> dict[str, str]:
    """The verdict on a figure with its interval."""
    seen = f"{figure:.4g} {unit} ({low:.4g} to {high:.4g}), {'at most' if ceiling else 'at least'} {bound:.4g} {unit}"
    if high <= bound if ceiling else low >= bound:
        return {"verdict": "met", "why": seen}
    if low > bound if ceiling else high < bound:
        return {"verdict": "missed", "why": seen}
    return {"verdict": "undecided", "why": f"{seen}: the bound lies within the interval"}


def speedup(reference: Sequence[float], candidate: Sequence[float]) -> tuple[float, float, float]:
    """How many times faster the candidate's median is, and bounds of it."""
    slow_low, slow_high = quantile_bounds(reference, 0.5, OF_EACH_MEDIAN)
    fast_low, fast_high = quantile_bounds(candidate, 0.5, OF_EACH_MEDIAN)
    return nearest(reference, 0.5) / nearest(candidate, 0.5), slow_low / fast_high, slow_high / fast_low


def nearest(samples: Sequence[float], q: float) -> float:
    """The smallest sample that at least a share q of the samples does not exceed."""
    return sorted(samples)[math.ceil(round(q * len(samples), 9)) - 1]


def quantile_bounds(samples: Sequence[float], q: float, confidence: float) -> tuple[float, float]:
    """Bounds of the true quantile; 0 and infinity where the samples are too few for one."""
    ordered, n = sorted(samples), len(samples)
    low, high, below = 0.0, math.inf, 0.0
    for rank in range(1, n + 1):  # below = P(B ≤ rank − 1)
        below += math.exp(_log_choose(n, rank - 1) + (rank - 1) * math.log(q) + (n - rank + 1) * math.log1p(-q))
        if below <= 1 - confidence:
            low = ordered[rank - 1]
        if below >= confidence:
            high = ordered[rank - 1]
            break
    return low, high


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def accuracy_words(order: Mapping[str, Any], evidence: Mapping[str, Any], folder: Path) -> str:
    """How many of the evaluation inputs each engine names the right class of."""
    if order.get("metric") != "top1" or not order.get("labels"):
        return "the answers are kept"
    told = []
    for name, engine in evidence["engines"].items():
        if engine.get("answers"):
            right = right_answers(engine["answers"][0], folder, order["labels"])
            told.append(f"{name} {100 * right / len(order['labels']):.2f} %")
    return f"right of {len(order['labels'])}: {', '.join(told)}"


def right_answers(output: Mapping[str, Any], folder: Path, labels: Sequence[int]) -> int:
    """How often the greatest number of an answer is the label's; the file is read an answer at a time."""
    count, code = math.prod(output["shape"][1:]), "<%d" + CODES[str(output["dtype"])]
    form, right = struct.Struct(code % count), 0
    with (folder / str(output["file"])).open("rb") as file:
        for label in labels:
            row = form.unpack(file.read(form.size))
            right += max(range(count), key=row.__getitem__) == label
    return right
