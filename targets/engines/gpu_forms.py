"""What an engine on a device's GPU can be built in, beside what its target asks for first.

    TensorRT 10.x          weakly typed: INT8 and FP16 where the builder finds them faster; or strongly typed, from a
                           file with its floats in float16. Which is the faster one differs from network to network.
    TensorRT 11            strongly typed alone: there is one form
    ONNX Runtime on CUDA   float32 and float16 kernels; quantizers run as they are written, between them is float

2:4 sparsity: kernels that leave out two of four neighbouring weights, from compute capability 8.0 on.

Sources: NVIDIA, TensorRT documentation, "Strongly typed networks" and "Sparsity"; ONNX Runtime, documentation of the
CUDA execution provider.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from targets.engines.elsewhere import TENSORRT, Elsewhere, said_of
from targets.reach.reached import version_in
from targets.runner import Engine

STRONG_FROM, STRONG_ALONE_FROM = 10, 11
SPARSE_FROM = 8.0  # compute capability
TOLD = ("workspace_mb", "with", "seconds", "session", "warnings")


def on_gpu(engine: Engine) -> bool:
    """Whether an engine computes on the GPU of a device, in half precision where that is faster."""
    return isinstance(engine, Elsewhere) and (engine.name == TENSORRT or engine.settings.get("provider") == "cuda")


def typed_strongly(engine: Engine) -> Elsewhere | None:
    """The same TensorRT, building what the types of the file say; None where it knows no two ways."""
    if not isinstance(engine, Elsewhere) or engine.name != TENSORRT or engine.settings.get("typed") == "strong":
        return None
    major = (version_in(engine.device.facts(), TENSORRT) or "").split(".")[0]
    if not major.isdigit() or not STRONG_FROM <= int(major) < STRONG_ALONE_FROM:
        return None
    return replace(engine, settings={**engine.settings, "typed": "strong"})


def is_cuda(engine: Engine) -> bool:
    """Whether it is ONNX Runtime on CUDA."""
    return isinstance(engine, Elsewhere) and engine.name != TENSORRT and engine.settings.get("provider") == "cuda"


def sparse_kernels(engine: Engine) -> Elsewhere | None:
    """The same TensorRT, which may use kernels for 2:4 sparse weights; None where the GPU has none."""
    if not isinstance(engine, Elsewhere) or engine.name != TENSORRT:
        return None
    try:
        capability = float(str(engine.device.facts().get("compute_capability")))
    except ValueError:
        return None
    return replace(engine, settings={**engine.settings, "sparsity": True}) if capability >= SPARSE_FROM else None


def told_of_build(engine_path: Path) -> dict[str, Any]:
    """How the device built an engine, for the manifest: limits, settings, session; {} where it was built here."""
    said = said_of(engine_path)
    identity = said.get("identity")
    told: dict[str, Any] = {name: said[name] for name in TOLD if said.get(name) is not None}
    if said.get("timing_cache"):
        told["timing_cache"] = Path(str(said["timing_cache"])).name
    if isinstance(identity, Mapping):
        told["settings"] = identity.get("settings")
    return told
