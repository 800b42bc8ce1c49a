"""The conditions of a measurement that was taken on a device elsewhere, from the facts that it told."""

from collections.abc import Mapping
from typing import Any

from targets.measurement import Conditions
from targets.reach.reached import is_emulated, version_in

KEPT = ("board", "l4t", "gpu", "compute_capability", "cuda", "power_mode", "emulated")
OF_A_JETSON = ("module", "sku", "jetpack")


def conditions_there(
    facts: Mapping[str, Any], *, target: str, runtime: str, threads: int, batch: int, warmup_runs: int, samples: int
) -> Conditions:
    """Those of a measurement taken now on the device with these facts; one that is emulated is not the target."""
    return Conditions(
        target=target,
        machine=str(facts.get("hostname") or "unnamed device"),
        cpu=str(facts.get("cpu") or "unknown processor"),
        cpu_features=tuple(facts.get("cpu_features") or ()),
        cores=int(facts.get("cores") or 1),
        operating_system=str(facts.get("operating_system") or "unknown"),
        runtime=runtime,
        threads=threads,
        batch=batch,
        warmup_runs=warmup_runs,
        samples=samples,
        load_average=facts.get("load_average"),
        governor=facts.get("governor"),
        memory_bytes=facts.get("memory_bytes"),
        on_target=not is_emulated(facts),
        device=device_told(facts),
    )


def device_told(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader must know of the device; no path on it."""
    jetson = facts.get("jetson") or {}
    told = {name: facts.get(name) for name in KEPT} | {name: jetson.get(name) for name in OF_A_JETSON}
    told["tensorrt"] = version_in(facts, "tensorrt")
    return {name: value for name, value in told.items() if value is not None}
