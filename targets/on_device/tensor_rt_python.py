"""TensorRT through the device's own Python package: the five functions of a runtime, each in a process of its own.

A builder may be killed for its memory and a plan may end the process that opens it, so nothing of TensorRT runs in the
process of the job: it asks a child (`tensor_rt_child.py`), hands on its progress, and puts its end into words.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.on_device.events import emit, says
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.own_child import python_command, run_lines
from targets.on_device.runtimes_here import SYSTEM_PYTHON, probed
from targets.on_device.tensor_rt_answers import asked_of
from targets.on_device.tensor_rt_exec import JETPACK
from targets.on_device.tensor_rt_identity import (
    check_identity,
    identity_of_build,
    own_identity,
    timing_cache_of,
    workspace_of,
)
from targets.on_device.tensor_rt_layers import counts, float_remark, layer_rows, with_times
from targets.on_device.tensor_rt_rounds import Timed, rounds
from targets.on_device.tensor_rt_state import facts_of
from targets.on_device.tensor_rt_versions import OLDEST_IN_PYTHON, runtime_name, strongly_typed, version_from_name
from targets.on_device.trtexec_log import Log, ended_badly

if TYPE_CHECKING:
    from targets.on_device.tensor_rt_versions import Version

CHILD = "targets.on_device.tensor_rt_child:main"
EVENT = '{"event": "progress"'


@dataclass(frozen=True)
class Interpreter:
    """One that can import tensorrt, and the version of that."""

    place: str
    version: Version


def find_python(runtime: str = "") -> Interpreter | None:
    """This interpreter, or the system's, whichever can import tensorrt; one that has this runtime comes first."""
    found: list[Interpreter] = []
    for place in (sys.executable, SYSTEM_PYTHON):
        version = probed("tensorrt", python=place).get("version") if Path(place).exists() else None
        if version:
            found.append(Interpreter(place, version_from_name(version)))
            if runtime in ("", runtime_name(found[-1].version)):
                return found[-1]
    return found[0] if found else None


def build(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """ONNX → engine, with the list of its layers and the identity that it carries."""
    settings, facts, python = job.get("settings") or {}, facts_of(job), _python()
    own = own_identity(python.version, facts)
    cache = timing_cache_of(settings, folder, own=own, power_mode=facts.get("power_mode"))
    workspace = workspace_of(settings, facts)
    asked = {
        "onnx": job["onnx"], "engine": job["engine"], "settings": settings, "workspace_mb": workspace,
        "timing_cache": str(cache),
    }  # fmt: skip
    found = _child(python, "build", asked, folder, what=f"build {job['onnx']}")
    rows = layer_rows(found["information"])
    remark = float_remark(rows, strong=strongly_typed(python.version, settings))
    if remark:
        says(remark)
    return {
        "engine": job["engine"], "runtime": runtime_name(python.version), "seconds": found["seconds"], "layers": rows,
        "counts": counts(rows), "with": "python", "workspace_mb": workspace, "timing_cache": str(cache),
        "warnings": found["warnings"], "files": [job["engine"]],
        "identity": identity_of_build(folder / job["onnx"], own=own, settings=settings, seen=found),
    }  # fmt: skip


def answer(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """All inputs in one process."""
    python = _own(job, folder, [job["engine"]])
    asked = {key: job.get(key) for key in ("engine", "inputs", "count", "settings")}
    found = _child(python, "answer", asked, folder, what="answer the inputs")
    outputs = found["outputs"]
    return {"outputs": outputs, "files": [row["file"] for row in outputs], "digits": None, "with": "python"}


def measure(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Times of the engines in turns, each time in a fresh process, without and then with transfers."""
    python = _own(job, folder, job["engines"])

    def once(engine: str, *, transfers: bool, graph: bool) -> Timed:
        asked = {
            "engine": engine, "inputs": asked_of(job, engine), "count": job.get("count"),
            "settings": job.get("settings") or {}, "transfers": transfers, "graph": graph,
        }  # fmt: skip
        found = _child(python, "times", asked, folder, what=f"run to be timed ({engine})")
        return Timed(tuple(found["compute_ms"]), tuple(found["latency_ms"]), graph=found["graph"])

    return {**rounds(job, folder, once), "with": "python"}


def layers(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The median time of each layer, in a run of its own."""
    python = _own(job, folder, [job["engine"]])
    asked = {key: job.get(key) for key in ("engine", "inputs", "count", "settings")}
    found = _child(python, "layers", asked, folder, what="run to have its layers timed")
    times = {name: {"ms": ms, "statistic": "median"} for name, ms in found["median_ms"].items()}
    rows = with_times(layer_rows(found["information"]), times)
    return {"layers": rows, "counts": counts(rows), "with": "python"}


def memory(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The peak of a process that opens the engine and answers once, and what the GPU's used memory grew by."""
    python = _own(job, folder, [job["engine"]])
    asked = {key: job.get(key) for key in ("engine", "inputs", "count", "settings")}
    found = _child(python, "memory", asked, folder, what="answer once")
    gpu = max(0, found["gpu_bytes"])
    return {
        "peak_bytes": found["peak_rss_bytes"] + gpu, "system_bytes": found["peak_rss_bytes"], "gpu_bytes": gpu,
        "what": "the peak of the process in the system's memory, Python's own included, and what the used memory of "
        "the GPU grew by, whoever used it",
        "with": "python",
    }  # fmt: skip


def _own(job: dict[str, Any], folder: Path, engines: list[str]) -> Interpreter:
    """The interpreter to use, once every engine has been found to be this device's own."""
    python = _python(runtime_of(job))
    own = own_identity(python.version, facts_of(job))
    for engine in engines:
        check_identity(job, engine, own=own)
        if not (folder / engine).is_file():
            raise OnDeviceFailure("missing", f"there is no engine {engine} in {folder}.")
    return python


def runtime_of(job: dict[str, Any]) -> str:
    """What built the engine of this job, or one of its engines."""
    identities = [job.get("identity"), *(job.get("identities") or {}).values()]
    return next((str(each["runtime"]) for each in identities if each and each.get("runtime")), "")


def _python(runtime: str = "") -> Interpreter:
    python = find_python(runtime)
    if python is None:
        raise OnDeviceFailure(
            "missing", f"TensorRT is not on the device: no trtexec on the PATH or at {JETPACK}, and no Python package "
            "tensorrt. Install NVIDIA's tensorrt packages there.",
        )  # fmt: skip
    if python.version < OLDEST_IN_PYTHON:
        raise OnDeviceFailure(
            "missing", f"the device's Python has {runtime_name(python.version)}; it is used from 10.0 on. Install "
            "trtexec, which older ones are used through.",
        )  # fmt: skip
    return python


def _child(python: Interpreter, name: str, asked: dict[str, Any], folder: Path, *, what: str) -> dict[str, Any]:
    """One call of tensor_rt_child.py; what it leaves, with how long it took and the most memory it held."""
    request, left, log = folder / f"{name}.asked.json", folder / f"{name}.left.json", Log()
    request.write_text(json.dumps(asked), encoding="utf-8")
    if left.exists():
        left.unlink()

    def on_line(line: str) -> None:
        if line.startswith(EVENT):
            emit(json.loads(line))
        else:
            log.read(line)

    command = python_command(CHILD, [name, str(request), str(left)], python=python.place)
    ended = run_lines(command, folder=folder, on_line=on_line)
    if left.is_file():
        found: dict[str, Any] = json.loads(left.read_text(encoding="utf-8"))
        if "failed" in found:
            raise OnDeviceFailure(found["failed"], found["sentence"])
        if ended.code == 0:
            return {**found, "seconds": ended.seconds, "peak_rss_bytes": ended.peak_rss_bytes, "warnings": log.warnings}
    raise ended_badly(log, ended, who="the builder" if name == "build" else "the engine", what=what)
