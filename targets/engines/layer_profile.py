"""Times of each operator, out of the profile that ONNX Runtime writes.

The profile is a list of events in Chrome's trace format; those of category "Node" are one run of one operator each,
in µs, in the order of execution.
"""

import json
from pathlib import Path
from statistics import median
from typing import Any

from targets.engines.onnx_operators import INTEGER_KINDS
from targets.runner import LayerTime

US_PER_MS = 1000.0


def layer_times_from_profile(profile: Path, *, runs: int) -> tuple[LayerTime, ...]:
    """The median of each operator over the last `runs` runs; earlier ones were the warm-up."""
    events = json.loads(profile.read_text(encoding="utf-8"))
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    durations: dict[tuple[str, str], list[float]] = {}
    facts: dict[tuple[str, str], dict[str, Any]] = {}
    for event in nodes:
        # A name alone may repeat (the names of a model are its author's); with the index it does not.
        key = (str(event["args"].get("node_index", "")), event["name"].removesuffix("_kernel_time"))
        durations.setdefault(key, []).append(event["dur"] / US_PER_MS)
        facts.setdefault(key, event["args"])
    return tuple(
        LayerTime(
            name=key[1],
            kind=facts[key]["op_name"],
            integer=_multiplies_or_moves_integers(facts[key]),
            median_ms=median(times[-runs:]),
        )
        for key, times in durations.items()
    )


def _multiplies_or_moves_integers(facts: dict[str, Any]) -> bool:
    """Whether the operator works on 8-bit integers: by its kind, or because its first input is one."""
    kind = facts["op_name"]
    if kind in INTEGER_KINDS:
        return True
    types = facts.get("input_type_shape") or [{}]
    return kind != "DequantizeLinear" and any(name in ("int8", "uint8") for name in types[0])
