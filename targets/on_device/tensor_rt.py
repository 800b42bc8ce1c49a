"""TensorRT on the device: by `trtexec` where it exists, else by the device's own Python package `tensorrt`.

Answers to inputs go the other way round: Python answers all of them in one process, trtexec starts once for each. The
setting "with" ("trtexec", "python") takes one of the two and no other.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import targets.on_device.tensor_rt_exec as by_trtexec
import targets.on_device.tensor_rt_python as by_python
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.tensor_rt_exec import find_trtexec
from targets.on_device.tensor_rt_python import find_python, runtime_of
from targets.on_device.tensor_rt_versions import runtime_name


def build(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """ONNX → engine."""
    return dict(_way(job).build(job, folder))


def answer(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The engine's answers to inputs."""
    return dict(_way(job, rather_python=True).answer(job, folder))


def measure(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Times of one or several engines, in turns, in fresh processes."""
    return dict(_way(job).measure(job, folder))


def layers(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The median time of each layer."""
    return dict(_way(job).layers(job, folder))


def memory(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The peak of a fresh process that opens the engine and answers one batch."""
    return dict(_way(job).memory(job, folder))


def _way(job: dict[str, Any], *, rather_python: bool = False) -> ModuleType:
    asked = (job.get("settings") or {}).get("with")
    if asked not in (None, "trtexec", "python"):
        raise OnDeviceFailure("usage", f"the job asks for TensorRT with {asked!r}; known are trtexec and python.")
    trtexec = asked != "python" and find_trtexec() is not None
    if asked == "python" or (asked is None and not trtexec):
        return by_python
    if rather_python and asked is None:  # it has to be of the TensorRT that built the engine
        python = find_python(runtime_of(job))
        if python is not None and runtime_name(python.version) == runtime_of(job):
            return by_python
    return by_trtexec
