"""TensorRT through its command line tool `trtexec`: the five functions of a runtime.

Where it lies: on the PATH, or where JetPack puts it. It reads and writes in the job's folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.on_device.events import says
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.own_child import run_lines
from targets.on_device.tensor_rt_answers import Batches, Collected, asked_of
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
from targets.on_device.tensor_rt_versions import runtime_name, strongly_typed, version_from_banner
from targets.on_device.trtexec_commands import (
    answer_command,
    build_command,
    loaded,
    memory_command,
    profile_command,
    time_command,
)
from targets.on_device.trtexec_exports import (
    outputs_from_file,
    profile_from_file,
    raw_values,
    read_json,
    times_from_file,
)
from targets.on_device.trtexec_log import NO_GRAPH, Log, ended_badly
from targets.on_device.trtexec_progress import told

if TYPE_CHECKING:
    from targets.on_device.own_child import Ended
    from targets.on_device.tensor_rt_versions import Version

JETPACK = "/usr/src/tensorrt/bin/trtexec"


def find_trtexec() -> str | None:
    """Its path, or None where there is none."""
    return shutil.which("trtexec") or shutil.which(JETPACK)


def build(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """ONNX → engine, with the list of its layers and the identity that it carries."""
    trtexec, version = _tool(folder)
    settings, facts = job.get("settings") or {}, facts_of(job)
    own = own_identity(version, facts)
    cache = timing_cache_of(settings, folder, own=own, power_mode=facts.get("power_mode"))
    workspace = workspace_of(settings, facts)
    listed = folder / f"{job['engine']}.layers.json"
    command = build_command(
        [trtexec], onnx=job["onnx"], engine=job["engine"], layers=listed.name, version=version, settings=settings,
        workspace_mb=workspace, timing_cache=str(cache),
    )  # fmt: skip
    if (folder / job["engine"]).exists():
        (folder / job["engine"]).unlink()
    log = Log()
    ended = _run(command, folder, log, building=True)
    if ended.code != 0:
        raise ended_badly(log, ended, who="the builder", what=f"build {job['onnx']}")
    if not (folder / job["engine"]).is_file():
        raise OnDeviceFailure("failed", f"trtexec ended well and left no {job['engine']}: {log.complaint()}.")
    rows = layer_rows(read_json(listed))
    remark = float_remark(rows, strong=strongly_typed(version, settings))
    if remark:
        says(remark)
    return {
        "engine": job["engine"], "runtime": runtime_name(version), "seconds": ended.seconds, "layers": rows,
        "counts": counts(rows), "with": "trtexec", "command": command, "workspace_mb": workspace,
        "timing_cache": str(cache), "warnings": log.warnings,
        "identity": identity_of_build(folder / job["onnx"], own=own, settings=settings, seen=log.facts),
        "files": [job["engine"], listed.name],
    }  # fmt: skip


def answer(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One process per batch: slow, and said so."""
    trtexec, version = _opened(job, folder, [job["engine"]])
    batches = Batches(job, folder)
    collected, raw = Collected(folder), version >= (8, 6)
    says(
        f"trtexec gives the answers and starts once for each of {len(batches)} batches: this is slow. "
        "Python's tensorrt, where it is installed, answers all in one process."
    )
    for index, files in batches.each():
        output = folder / "answers.json"
        command = answer_command(
            [trtexec], engine=job["engine"], inputs=loaded(files), output=output.name, version=version
        )
        log = Log()
        ended = _run([*command, "--dumpRawBindingsToFile"] if raw else command, folder, log)
        if ended.code != 0 and raw and log.unknown_option() == "--dumpRawBindingsToFile":
            raw, log = False, Log()
            ended = _run(command, folder, log)
        if ended.code != 0:
            raise ended_badly(log, ended, who="the engine", what=f"answer batch {index} of {len(batches)}")
        found = outputs_from_file(output)
        collected.add(raw_values(found, folder), kept=batches.kept(index))
        batches.progress(index)
    if collected.rounded:
        says("trtexec wrote some answers in text alone, with six digits each.")
    outputs = collected.close()
    return {
        "outputs": outputs, "files": [row["file"] for row in outputs], "digits": 6 if collected.rounded else None,
        "with": "trtexec",
    }  # fmt: skip


def measure(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Times of the engines in turns, each time in a fresh process, without and then with transfers."""
    trtexec, version = _opened(job, folder, job["engines"])
    settings = job.get("settings") or {}

    def once(engine: str, *, transfers: bool, graph: bool) -> Timed:
        times, log, asked = folder / "times.json", Log(), asked_of(job, engine)
        inputs = loaded(Batches({**job, "inputs": asked}, folder).first()) if asked else ""
        command = time_command(
            [trtexec], engine=engine, times=times.name, version=version, settings=settings, transfers=transfers,
            graph=graph, inputs=inputs,
        )  # fmt: skip
        ended = _run(command, folder, log)
        if ended.code != 0 and not (graph and log.says_graph()):
            raise ended_badly(log, ended, who="the engine", what=f"run to be timed ({engine})")
        if ended.code != 0:
            return Timed((), (), graph=False)
        compute, latency = times_from_file(times, timed=log.facts.get("timed"))
        recorded = graph and not log.said(NO_GRAPH)
        return Timed(tuple(compute), tuple(latency), graph=recorded, warnings=tuple(log.warnings))

    return {**rounds(job, folder, once), "with": "trtexec"}


def layers(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The median time of each layer, in a run of its own."""
    trtexec, version = _opened(job, folder, [job["engine"]])
    profile, listed, log = folder / "profile.json", folder / "profile.layers.json", Log()
    command = profile_command(
        [trtexec], engine=job["engine"], profile=profile.name, layers=listed.name, version=version,
        settings=job.get("settings") or {},
    )  # fmt: skip
    ended = _run(command, folder, log)
    if ended.code != 0:
        raise ended_badly(log, ended, who="the engine", what="run to have its layers timed")
    rows = with_times(layer_rows(read_json(listed)), profile_from_file(profile))
    return {"layers": rows, "counts": counts(rows), "with": "trtexec"}


def memory(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The peak of a process that opens the engine and answers once, and what TensorRT holds of the GPU's memory."""
    trtexec, version = _opened(job, folder, [job["engine"]])
    log = Log()
    ended = _run(memory_command([trtexec], engine=job["engine"], version=version), folder, log)
    if ended.code != 0:
        raise ended_badly(log, ended, who="the engine", what="answer once")
    gpu = log.facts.get("managed_gpu_mib")
    said = "the peak of the process in the system's memory, trtexec's own included"
    said += "; TensorRT named no GPU memory" if gpu is None else f", and {gpu} MiB that TensorRT holds for the GPU"
    return {
        "peak_bytes": ended.peak_rss_bytes + (gpu or 0) * 1024 * 1024, "system_bytes": ended.peak_rss_bytes,
        "gpu_bytes": None if gpu is None else gpu * 1024 * 1024, "what": said, "with": "trtexec",
    }  # fmt: skip


def _tool(folder: Path) -> tuple[str, Version]:
    """trtexec and its version, which it writes above everything, its help included."""
    trtexec = find_trtexec()
    if trtexec is None:
        raise OnDeviceFailure("missing", f"trtexec is neither on the PATH nor at {JETPACK}. Install NVIDIA's TensorRT.")
    banner: list[str] = []
    run_lines([trtexec, "--help"], folder=folder, on_line=banner.append)
    version = version_from_banner("\n".join(banner))
    if version is None:
        said = (banner or ["nothing"])[0][:200]
        raise OnDeviceFailure("failed", f"{trtexec} --help does not tell its version; it says: {said}")
    return trtexec, version


def _opened(job: dict[str, Any], folder: Path, engines: list[str]) -> tuple[str, Version]:
    """The tool, once every engine has been found to be this device's own."""
    trtexec, version = _tool(folder)
    own = own_identity(version, facts_of(job))
    for engine in engines:
        check_identity(job, engine, own=own)
        if not (folder / engine).is_file():
            raise OnDeviceFailure("missing", f"there is no engine {engine} in {folder}.")
    return trtexec, version


def _run(command: list[str], folder: Path, log: Log, *, building: bool = False) -> Ended:
    teller = told(log) if building else None
    name = "build.log" if building else "trtexec.log"
    with (folder / name).open("w", encoding="utf-8") as kept:

        def on_line(line: str) -> None:
            kept.write(line + "\n")
            log.read(line)
            if teller is not None:
                teller()

        return run_lines(command, folder=folder, on_line=on_line)
