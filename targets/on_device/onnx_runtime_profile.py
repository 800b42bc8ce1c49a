"""Times of each operator, out of the profile that ONNX Runtime writes: as `targets/engines/layer_profile.py` reads it.

The profile is a list of events in Chrome's trace format; those of category "Node" are one run of one operator each,
in µs, in the order of execution.
"""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Any

from targets.on_device.onnx_runtime_arrays import asked, questions
from targets.on_device.onnx_runtime_session import open_session, settings_of

if TYPE_CHECKING:
    from pathlib import Path

WARMUP_RUNS = 5
PROFILED_RUNS = 25
US_PER_MS = 1000.0
# The runtime's products of integers, as in targets/engines/onnx_operators.py, which needs the onnx package to be read.
INTEGER_KINDS = frozenset({
    "QLinearConv", "ConvInteger", "QLinearConvTranspose", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulInteger16",
    "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention", "QOrderedMatMul", "QOrderedAttention",
    "DynamicQuantizeLSTM",
})  # fmt: skip
ENDING = "_kernel_time"


def layer_times(job: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The median of each operator over 25 runs of one batch, after 5 to warm up."""
    engine = folder / job["engine"]
    session = open_session(engine, settings_of(job), profile=folder / "profile")
    try:
        feeds = questions(session, job, folder).first()
        for _ in range(WARMUP_RUNS + PROFILED_RUNS):
            asked(session, feeds)
    finally:
        written = folder / session.end_profiling()  # else the runtime writes it when the session dies
    events = json.loads(written.read_text(encoding="utf-8"))
    written.unlink()
    return rows_of(events, runs=PROFILED_RUNS)


def rows_of(events: list[dict[str, Any]], *, runs: int) -> list[dict[str, Any]]:
    """The median of each operator over the last `runs` runs; earlier ones were the warm-up."""
    durations: dict[tuple[str, str], list[float]] = {}
    facts: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(ENDING):
            # A name alone may repeat (the names of a model are its author's); with the index it does not.
            key = (str(event["args"].get("node_index", "")), event["name"][: -len(ENDING)])
            durations.setdefault(key, []).append(event["dur"] / US_PER_MS)
            facts.setdefault(key, event["args"])
    return [
        {
            "name": key[1],
            "kind": facts[key]["op_name"],
            "integer": on_integers(facts[key]),
            "median_ms": median(taken[-runs:]),
            "provider": facts[key].get("provider", ""),
        }
        for key, taken in durations.items()
    ]


def on_integers(facts: dict[str, Any]) -> bool:
    """Whether the operator works on 8-bit integers: by its kind, or because its first input is one."""
    kind = facts["op_name"]
    if kind in INTEGER_KINDS:
        return True
    types = facts.get("input_type_shape") or [{}]
    return kind != "DequantizeLinear" and any(name in ("int8", "uint8") for name in types[0])
