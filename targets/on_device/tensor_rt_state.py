"""What the device says of itself around a job: which device it is, its clocks held or not, what made times unstable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from targets.on_device.asking import text_of
from targets.on_device.jetson import jetson_facts
from targets.on_device.nvidia_smi import gpus
from targets.on_device.power import state
from targets.on_device.stability import unstable
from targets.on_device.trtexec_log import ENQUEUE_BOUND, NOISY


def facts_of(job: dict[str, Any]) -> dict[str, Any]:
    """What an engine depends on: those facts that the job brings along, else read here."""
    given = job.get("facts")
    if given:
        return dict(given)
    root = root_of(job)
    jetson, cards = jetson_facts(root=root) or {}, gpus(root=root)
    card = cards[0] if cards else {}
    return {
        "board": jetson.get("board") or text_of(Path(root) / "proc/device-tree/model"),
        "l4t": jetson.get("l4t"),
        "gpu": jetson.get("gpu") or card.get("name"),
        "compute_capability": jetson.get("compute_capability") or card.get("compute_capability"),
        "power_mode": (jetson.get("power_mode") or {}).get("name"),
    }


def root_of(job: dict[str, Any]) -> str:
    """A tree of files that stands in for a device, in tests."""
    return str(job.get("root") or "/")


def state_of(job: dict[str, Any]) -> dict[str, Any]:
    """Clocks, temperatures and power mode now."""
    return state(root=root_of(job))


def unstable_of(runs: list[dict[str, Any]], before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Why the times are not to be trusted, trtexec's own warnings among it; nothing where they are."""
    reasons = unstable(runs, before, after)
    for run in runs:
        for warning in run["warnings"]:
            if NOISY.search(warning) or ENQUEUE_BOUND.search(warning):
                reasons.append(f"{run['engine']}, process {run['process']}: trtexec warns: {warning.strip('* ')}")
    return [*dict.fromkeys(reasons)]
