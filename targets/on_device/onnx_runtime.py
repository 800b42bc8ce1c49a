"""ONNX Runtime on a device: build, answer, measure, layers and memory, as `engines.py` states them.

What a job may set: {"settings": {"threads", "provider": "cpu" | "cuda", "precision_mode", "seed", "seconds",
"samples", "least", "processes", "allow_emulated"}, "python": the interpreter of fresh processes}. `samples` counts
rounds per process; without it as many are taken as fit into `seconds` for each engine, and at least 299, or `least`.
Every result has "session": the settings that were used, with what the job left out. Figures are not taken where an
emulator plays the processor, unless `allow_emulated` asks for them; then the result says so.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

from targets.on_device.clocks import held_clocks
from targets.on_device.emulation import emulated
from targets.on_device.events import progress, says
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.onnx_runtime_arrays import questions, unfinished, written
from targets.on_device.onnx_runtime_process import NoProcess, in_fresh_process
from targets.on_device.onnx_runtime_profile import layer_times
from targets.on_device.onnx_runtime_session import open_session, runtime_name, settings_of, whole_number
from targets.on_device.onnx_runtime_times import times
from targets.on_device.power import state
from targets.on_device.stability import unstable

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES = 3


def build(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Rewrite the graph for this processor and write it; it appears whole or not at all."""
    started, settings = time.perf_counter(), settings_of(job)
    source, engine = folder / job["onnx"], folder / job["engine"]
    beside = unfinished(engine)
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
    """Times of all engines, in turns, in several fresh processes; the state of the device before and after.

    Unstable is a GPU by its times, and any device by what throttled or changed meanwhile: the times of a processor
    that also runs an operating system are judged by their order statistics alone.
    """
    settings, is_emulated = settings_of(job), _emulated(job)
    processes = whole_number(job, "processes", PROCESSES)
    if not job.get("engines"):
        raise OnDeviceFailure("usage", "the job names no engines to measure.")
    with held_clocks(job, folder) as clocks:
        before, fresh = state(), True
        runs: list[dict[str, Any]] = []
        for process in range(processes):
            each = {"what": "times", "job": job, "folder": str(folder), "process": process}
            try:
                runs += in_fresh_process(each, folder)
            except NoProcess as why:
                says(f"no fresh process can be started ({why}): measured in one process instead of {processes}")
                runs, fresh = times(job, folder, process=0), False
                break
            progress(process + 1, processes, "processes timed")
        after = state()
    return {
        "clocks": clocks,
        "runs": runs,
        "before": before,
        "after": after,
        "unstable": unstable(runs, before, after),
        "fresh_processes": fresh,
        "runtime": runtime_name(),
        "session": settings.as_json(rewrites=False),
        **is_emulated,
    }


def layers(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The median time of each operator."""
    is_emulated = _emulated(job)
    return {
        "layers": layer_times(job, folder),
        "runtime": runtime_name(),
        "session": settings_of(job).as_json(rewrites=False),
        **is_emulated,
    }


def memory(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The peak of a fresh process that opens the engine and answers one batch."""
    is_emulated = _emulated(job)
    try:
        peak = in_fresh_process({"what": "memory", "job": job, "folder": str(folder)}, folder)
    except NoProcess as why:
        raise OnDeviceFailure("missing", f"no fresh process can be started to measure memory in ({why}).") from why
    return {
        "peak_bytes": peak,
        "runtime": runtime_name(),
        "session": settings_of(job).as_json(rewrites=False),
        **is_emulated,
    }


def _emulated(job: dict[str, Any]) -> dict[str, bool]:
    """What a result says of it; refuses to take figures of an emulator that were not asked for."""
    found, why = emulated()
    if found and (job.get("settings") or {}).get("allow_emulated") is not True:
        raise OnDeviceFailure(
            "refused",
            f"this processor is emulated ({why}): its times and its memory say nothing about the device it plays. "
            "Measure on a real one.",
        )
    return {"emulated": True} if found else {}
