"""The jobs that concern an engine, handed to the runtime that the job names.

Every runtime's file has the five functions build, answer, measure, layers and memory; what they take and give:

    build    {"runtime", "onnx", "engine", "settings"}              → {"engine", "runtime", "seconds", "layers", …}
    answer   {"runtime", "engine", "inputs", "count", "settings"}   → {"outputs": [{"name", "dtype", "shape", "file"}]}
    measure  {"runtime", "engines", "inputs", "settings"}           → {"runs": [{"engine", "process", "compute_ms",
                                                                       "latency_ms"}], "before", "after", "unstable"}
    layers   {"runtime", "engine", "inputs", "settings"}            → {"layers": [{"name", "kind", "integer",
                                                                       "median_ms"}]}
    memory   {"runtime", "engine", "inputs", "settings"}            → {"peak_bytes"}

"inputs" is a list of {"name", "dtype", "shape", "file"}: raw numbers, C order, little-endian, the first axis counting
inputs; `shape` has it too. "engines" is a list of file names in the folder, timed in turns; where one of them takes
another kind of numbers, "inputs_of" has its own inputs: {engine: list}.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from targets.on_device.failures import OnDeviceFailure

RUNTIMES = {
    "onnxruntime": "targets.on_device.onnx_runtime",
    "tensorrt": "targets.on_device.tensor_rt",
}


def build(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """ONNX → engine."""
    return _asked(job, folder, "build")


def answer(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The engine's answers to inputs."""
    return _asked(job, folder, "answer")


def measure(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Times of one or several engines, in turns, in fresh processes."""
    return _asked(job, folder, "measure")


def layers(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The median time of each layer."""
    return _asked(job, folder, "layers")


def memory(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The peak of a fresh process that opens the engine and answers one batch."""
    return _asked(job, folder, "memory")


def _asked(job: dict[str, Any], folder: Path, what: str) -> dict[str, Any]:
    runtime = job.get("runtime")
    if runtime not in RUNTIMES:
        raise OnDeviceFailure("usage", f"the job names the runtime {runtime!r}; known are {', '.join(RUNTIMES)}.")
    found: dict[str, Any] = getattr(import_module(RUNTIMES[runtime]), what)(job, folder)
    return found
