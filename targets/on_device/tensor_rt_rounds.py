"""Engines timed in turns, each time in a fresh process, by one stated boundary.

compute_ms   from the first kernel of a run to the end of its last, by the GPU's own clock; inputs lie on the GPU
latency_ms   transfers there and back with it, in a run of its own

With the setting "apart": False both are of the run with transfers, which takes half the time.

The order within a round is drawn by seed: what the device does to one engine it does to the others. Where an engine
cannot be recorded as a CUDA graph it is launched kernel by kernel, and the row says so.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from targets.on_device.clocks import held_clocks
from targets.on_device.events import progress, says
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.tensor_rt_state import state_of, unstable_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROCESSES = 3


@dataclass(frozen=True)
class Timed:
    """Of one process; graph False and no times: it cannot be recorded as a graph."""

    compute_ms: tuple[float, ...]
    latency_ms: tuple[float, ...]
    graph: bool
    warnings: tuple[str, ...] = ()


def rounds(job: dict[str, Any], folder: Path, once: Callable[..., Timed]) -> dict[str, Any]:
    """{"runs", "before", "after", "unstable", "clocks"}; `once(engine, transfers=…, graph=…)` is one fresh process."""
    settings, engines = job.get("settings") or {}, list(job["engines"])
    processes = int(settings.get("processes", PROCESSES))
    if not engines or processes < 1:
        raise OnDeviceFailure("usage", f"the job asks for {processes} processes of {len(engines)} engines.")
    draw = random.Random(settings.get("seed", 0))
    graphs, apart = dict.fromkeys(engines, bool(settings.get("graph", True))), bool(settings.get("apart", True))
    runs: list[dict[str, Any]] = []
    with held_clocks(job, folder) as clocks:
        before = state_of(job)
        for process in range(processes):
            for engine in draw.sample(engines, len(engines)):
                runs.append(_run(once, engine, graphs, process=process, apart=apart))
                progress(len(runs), processes * len(engines), "processes timed")
        after = state_of(job)
    unstable = unstable_of(runs, before, after)
    return {"runs": runs, "before": before, "after": after, "unstable": unstable, "clocks": clocks}


def _run(
    once: Callable[..., Timed], engine: str, graphs: dict[str, bool], *, process: int, apart: bool
) -> dict[str, Any]:
    compute = _timed(once, engine, graphs, transfers=not apart)
    whole = _timed(once, engine, graphs, transfers=True) if apart else compute
    return {
        "engine": engine, "process": process, "compute_ms": list(compute.compute_ms),
        "latency_ms": list(whole.latency_ms), "graph": compute.graph, "graph_with_transfers": whole.graph,
        "warnings": [*compute.warnings, *(whole.warnings if apart else ())],
    }  # fmt: skip


def _timed(once: Callable[..., Timed], engine: str, graphs: dict[str, bool], *, transfers: bool) -> Timed:
    found = once(engine, transfers=transfers, graph=graphs[engine])
    if graphs[engine] and not found.graph:
        graphs[engine] = False
        says(f"{engine} cannot be recorded as a CUDA graph: it is timed kernel by kernel.")
        if not found.compute_ms:
            found = once(engine, transfers=transfers, graph=False)
    if not found.compute_ms or not found.latency_ms:
        raise OnDeviceFailure("failed", f"{engine} was run and no time came of it.")
    return found
