"""TensorRT-RTX as a gate: does NVIDIA's compiler take a file, and which of its products become integer ones?

It builds ahead of time, on any x86 machine, for GPUs of the compute capabilities it knows. Its ONNX parser is of the
same code as that of TensorRT 11, so a file that it refuses is not one to send to a device.

It proves no more. Its kernels are not chosen by measurement and are not those of TensorRT: nothing here says how fast
an engine is. No Jetson is among the capabilities (8.7, 11.0), and an older TensorRT may refuse what this one takes.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from targets.engines.own_process import PACKAGES
from targets.engines.tensorrt_rtx_build import BUILT, PLAN
from targets.engines.tensorrt_rtx_log import EngineLayer, layers_from_log
from targets.errors import EngineFailed, EngineMissing, EngineRefused

EXTRA = "pip install 'edge-compress[tensorrt-rtx]'"
MODULE = "tensorrt_rtx_bindings"
# 8.0 A100 · 8.6 A2, A10, RTX 30 · 8.9 L4, RTX 40 · 12.0 RTX 50. NVIDIA, TensorRT-RTX documentation, "CPU-only AOT".
CAPABILITIES = (80, 86, 89, 120)


@dataclass(frozen=True)
class Refusal:
    """What the compiler says of a file it does not take, and of which node."""

    node: str
    operator: str
    why: str


@dataclass(frozen=True)
class CompiledAhead:
    """What became of one file for one or several compute capabilities.

    refusals: none where it was taken · warnings: what the compiler said and went on
    layers: of a build for several capabilities the compiler lists one of its engines only
    """

    capabilities: tuple[int, ...]
    version: str
    refusals: tuple[Refusal, ...]
    warnings: tuple[str, ...] = ()
    layers: tuple[EngineLayer, ...] = ()
    build_s: float = 0.0
    plan_bytes: int = 0

    @property
    def accepted(self) -> bool:
        """Whether there is an engine."""
        return not self.refusals


def is_installed() -> bool:
    """Whether the optional extra is there; nothing is loaded."""
    return find_spec(MODULE) is not None


def compiled_ahead(
    onnx_path: Path,
    *,
    capabilities: Sequence[int] = CAPABILITIES,
    plan_path: Path | None = None,
    limit_s: float = 600.0,
) -> CompiledAhead:
    """Build the file in a process of its own.

    capabilities: 86 is compute capability 8.6 · plan_path: where the engine is written; None throws it away

    Raises:
        EngineMissing: TensorRT-RTX is not installed.
        EngineRefused: there is no such file, or the compiler does not build for one of the capabilities.
        EngineFailed: its process crashed or took too long, or its log is not the one that is read here.
    """
    if not is_installed():
        raise EngineMissing(f"TensorRT-RTX is missing (no package {MODULE}). Install it with: {EXTRA}")
    if not onnx_path.is_file():
        raise EngineRefused(f"There is no ONNX file {onnx_path}. Export the model first.")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        told, log = _asked(onnx_path, folder, capabilities, limit_s=limit_s)
        unknown = [each for each in capabilities if each not in told["known"]]
        if unknown or not capabilities:
            raise EngineRefused(
                f"TensorRT-RTX {told['version']} builds ahead of time for the compute capabilities "
                f"{_listed(told['known'])}, not for {_listed(unknown) or 'none'}. Ask for some of those."
            )
        refusals = tuple(Refusal(**each) for each in told["refusals"])
        layers = () if refusals else _layers(log, version=told["version"])
        if plan_path is not None and not refusals:
            plan_path.write_bytes((folder / PLAN).read_bytes())
    return CompiledAhead(
        tuple(capabilities), told["version"], refusals, _warnings(log), layers, told.get("build_s", 0.0),
        told["plan_bytes"],
    )  # fmt: skip


def _asked(onnx_path: Path, folder: Path, capabilities: Sequence[int], *, limit_s: float) -> tuple[dict[str, Any], str]:
    """What the process wrote, and the compiler's log."""
    command = [sys.executable, "-m", "targets.engines.tensorrt_rtx_build", str(onnx_path.resolve()), str(folder)]
    try:
        ended = subprocess.run(
            [*command, *map(str, capabilities)], cwd=PACKAGES, capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EngineFailed(
            f"TensorRT-RTX did not build {onnx_path} in {limit_s:g} s. Give it longer, or a smaller file."
        ) from error
    # Both streams: which one the compiler logs to is its own affair.
    log = (ended.stdout + b"\n" + ended.stderr).decode(errors="replace")
    if ended.returncode != 0 or not (folder / BUILT).is_file():
        said = [line for line in log.splitlines() if line.strip()] or ["nothing"]
        how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"exit code {ended.returncode}"
        raise EngineFailed(f"TensorRT-RTX's process ended with {how} on {onnx_path}. Its last words: {said[-1][:200]}")
    told: dict[str, Any] = json.loads((folder / BUILT).read_text(encoding="utf-8"))
    return told, log


def _layers(log: str, *, version: str) -> tuple[EngineLayer, ...]:
    try:
        layers = layers_from_log(log)
    except ValueError as error:
        raise EngineFailed(f"The log of TensorRT-RTX {version} is read no more: {error}. {_reinstall()}") from error
    if not layers:
        raise EngineFailed(f"TensorRT-RTX {version} lists no layers of the engine in its log. {_reinstall()}")
    return layers


def _reinstall() -> str:
    return f"Install the version that is: {EXTRA}"


def _warnings(log: str) -> tuple[str, ...]:
    found = [line.partition("[W] ")[2] for line in log.splitlines() if "[W] " in line]
    return tuple(dict.fromkeys(found))


def _listed(capabilities: Sequence[int]) -> str:
    return ", ".join(f"{each // 10}.{each % 10}" for each in capabilities)
