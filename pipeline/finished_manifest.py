"""The manifest of a bundle that was finished on its device: what changes in it, and in result.json.

The last row is the engine, so limits of its own stage are judged anew with those of the run. The rows before it are
networks that never went to the device. Limits that a recipe sets for their stages stay as they were, undecided, and
with them the exit code is 3 at best: nothing has shown that they are kept there. `compress` with --device decides them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.manifest import finite
from targets.intervals import quantile_interval
from targets.measurement import Accuracy, Measurement, interval_as_json, nearest_rank
from targets.verdict import Verdict

EXIT_CODES = {"met": 0, "undecided": 3, "missed": 1}


@dataclass(frozen=True)
class Told:
    """The whole manifest, and the fields of result.json that are new."""

    manifest: dict[str, Any]
    result: dict[str, Any]


def finished(
    manifest: Mapping[str, Any], *, order: Mapping[str, Any], engine: Mapping[str, Any], file: str,
    rows: Sequence[Mapping[str, Any]], best: Measurement, verdicts: Sequence[Verdict], teacher: Accuracy | None,
) -> Told:  # fmt: skip
    """The manifest with the engine that the device built, in place of the file it was built from.

    engine: what the device said of it · file: its name in the bundle · rows: every engine that could be handed over
    """
    *before, last = manifest["stages"]
    row = {**last, **_measured(best), "measurement": best.as_json()}
    row["facts"] = {**last["facts"], "runtime": engine["build"].get("runtime"), "rivals": _rivals(rows)}
    drop = None if teacher is None or best.accuracy is None else 100 * (teacher.value - best.accuracy.value)
    told = [verdict.as_json() for verdict in verdicts]
    every = [*told, *(each for stage in (*before, last) for each in stage.get("verdicts", ()))]
    made = _engine(manifest["engine"], engine, file, order)
    changed = {
        "exit_code": _exit_code(every),
        "speedup": None if best.pairs is None else best.pairs.speedup,
        "accuracy_drop_points": drop,
        "verdicts": told,
        "estimate": None,
        "engine": made,
    }
    new = {**manifest, **changed, "conditions": row["measurement"]["conditions"], "stages": [*before, row]}
    short = {name: made[name] for name in ("runtime", "integer_ops", "float_ops")}
    stages = [{name: each[name] for name in each if name not in ("measurement", "facts")} for each in new["stages"]]
    return Told(dict(finite(new)), dict(finite({**changed, "engine": short, "stages": stages})))


def _measured(best: Measurement) -> dict[str, Any]:
    """The fields of a row that a device has measured anew."""
    return {
        "accuracy": None if best.accuracy is None else best.accuracy.value,
        "accuracy_n": None if best.accuracy is None else best.accuracy.n,
        "size_bytes": best.size_bytes,
        "latency_p50_ms": None if best.latency is None else best.latency.p50_ms,
        "latency_p99_ms": None if best.latency is None else best.latency.p99_ms,
        "peak_memory_bytes": best.peak_memory_bytes,
        "reasons": dict(best.missing),
    }


def _engine(
    before: Mapping[str, Any], engine: Mapping[str, Any], file: str, order: Mapping[str, Any]
) -> dict[str, Any]:
    """The engine as the device tells of it."""
    products = [each for each in engine["build"].get("layers") or () if each.get("product", True)]
    layers = (engine.get("layers") or {}).get("layers")
    operators = [
        {"name": each["name"], "kind": each["kind"], "integer": bool(each["integer"]), "why": each.get("why", "")}
        for each in products
    ] or before["operators"]
    whole = sum(bool(each["integer"]) for each in operators)
    return {
        **before, "file": file, "runtime": engine["build"].get("runtime"), "threads": order["threads"],
        "integer_ops": whole, "float_ops": len(operators) - whole, "operators": operators,
        "layer_times": list(layers or ()),
        "layer_times_missing": "" if layers else str((engine.get("layers") or {}).get("failed", "none were sent")),
    }  # fmt: skip


def _rivals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As pipeline/stages/rivals.py tells of them; over the float engine, by the medians."""
    timed = [each for each in rows if each["measurement"].latency is not None]
    if len(timed) < 2:
        return []
    slow = next((each for each in timed if each["name"] == "float"), timed[0])["measurement"].latency
    seen = []
    for each in timed:
        own = each["measurement"].latency
        one, two = (quantile_interval(which.samples_ms, 0.5, confidence=0.975) for which in (slow, own))
        bounds = type(one)(one.low / two.high, one.high / two.low)
        seen.append({
            "name": each["name"], "runtime": own.conditions.runtime, "stage": each["name"],
            "p50_ms": nearest_rank(own.samples_ms, 0.5), "shipped": not each["why_not"],
            "speedup": slow.p50_ms / own.p50_ms, "interval": interval_as_json(bounds), "kernels": [],
            "why_not": each["why_not"],
        })  # fmt: skip
    return seen


def _exit_code(verdicts: Sequence[Mapping[str, Any]]) -> int:
    found = {str(each["verdict"]) for each in verdicts}
    return 1 if "missed" in found else 3 if "undecided" in found else 0
