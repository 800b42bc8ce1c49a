"""ONNX Runtime on a device: build, answer, measure, layers and memory, as `engines.py` states them.

What a job may set: {"settings": {"threads", "provider": "cpu" | "cuda", "precision_mode", "seed", "seconds",
"samples", "processes"}, "python": the interpreter of fresh processes}. `samples` counts rounds per process; without it
as many are taken as fit into `seconds` for each engine, and at least 299. Every result has "session": the settings
that were used, with what the job left out.
"""

from __future__ import annotations

import shutil
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from targets.on_device.events import progress, says
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.onnx_runtime_arrays import questions, written
from targets.on_device.onnx_runtime_process import NoProcess, in_fresh_process
from targets.on_device.onnx_runtime_profile import layer_times
from targets.on_device.onnx_runtime_session import open_session, runtime_name, settings_of
from targets.on_device.onnx_runtime_times import times

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES = 3


def build(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Rewrite the graph for this processor and write it; it appears whole or not at all."""
    started, settings = time.perf_counter(), settings_of(job)
    source, engine = folder / job["onnx"], folder / job["engine"]
    beside = engine.with_name(".unfinished-" + engine.name)
    try:
        providers = open_session(source, settings, keep=beside).get_providers()
        if not beside.is_file():
            raise OnDeviceFailure("failed", f"ONNX Runtime wrote no engine for {source.name}.")
        open_session(beside, settings)  # what cannot be opened is refused here
        beside.replace(engine)
    except OnDeviceFailure as failure:
        if source.is_file() and shutil.disk_usage(folder).free < source.stat().st_size:
            raise OnDeviceFailure("full", f"no space is left on the device below {folder}. Make room.") from failure
        raise
    finally:
        if beside.exists():
            beside.unlink()
    return {
        "engine": engine.name,
        "runtime": runtime_name(),
        "seconds": time.perf_counter() - started,
        "providers": providers,
        "files": [engine.name],
        "session": settings.as_json(rewrites=True),
    }


def answer(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The engine's answers to all inputs, as raw files; what is no number is passed on as it is."""
    settings = settings_of(job)
    session = open_session(folder / job["engine"], settings)
    outputs = written(
        session, questions(session, job, folder), folder, tell=lambda done, of: progress(done, of, "answers")
    )
    return {
        "outputs": outputs,
        "files": [each["file"] for each in outputs],
        "runtime": runtime_name(),
        "session": settings.as_json(rewrites=False),
    }


def measure(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Times of all engines, in turns, in several fresh processes; the state of the device before and after."""
    settings = settings_of(job)
    processes = int((job.get("settings") or {}).get("processes") or PROCESSES)
    before, runs, fresh = _state(), [], True
    for process in range(processes):
        try:
            runs += in_fresh_process({"what": "times", "job": job, "folder": str(folder), "process": process}, folder)
        except NoProcess as why:
            says(f"no fresh process can be started ({why}): measured in one process instead of {processes}")
            runs, fresh = times(job, folder, process=0), False
            break
        progress(process + 1, processes, "processes timed")
    return {
        "runs": runs,
        "before": before,
        "after": _state(),
        "unstable": [],
        "fresh_processes": fresh,
        "runtime": runtime_name(),
        "session": settings.as_json(rewrites=False),
    }


def layers(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The median time of each operator."""
    return {
        "layers": layer_times(job, folder),
        "runtime": runtime_name(),
        "session": settings_of(job).as_json(rewrites=False),
    }


def memory(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The peak of a fresh process that opens the engine and answers one batch."""
    try:
        peak = in_fresh_process({"what": "memory", "job": job, "folder": str(folder)}, folder)
    except NoProcess as why:
        raise OnDeviceFailure("missing", f"no fresh process can be started to measure memory in ({why}).") from why
    return {"peak_bytes": peak, "runtime": runtime_name(), "session": settings_of(job).as_json(rewrites=False)}


def _state() -> dict[str, Any]:
    """Power mode, clocks and temperatures, where this part can read them."""
    try:
        found: dict[str, Any] = import_module("targets.on_device.power").state()
    except ImportError:
        return {}
    return found
