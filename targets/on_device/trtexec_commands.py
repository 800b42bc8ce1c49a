"""The command lines of trtexec, per version; every file is named relative to the folder it is started in.

Workspace is in MiB, trtexec's own unit; its default is all memory of the GPU, which on a board is all memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from targets.on_device.tensor_rt_versions import precision_flags, profile_flags, timing_flags, transfer_flags

if TYPE_CHECKING:
    from targets.on_device.tensor_rt_versions import Version

WARM_UP_MS = 1000
SECONDS = 3.0  # trtexec's own default
ITERATIONS = 299  # ceil(ln 0.05 / ln 0.99): the least that bounds a p99 from above with 95 %


def build_command(
    trtexec: list[str],
    *,
    onnx: str,
    engine: str,
    layers: str,
    version: Version,
    settings: dict[str, Any],
    workspace_mb: int | None,
    timing_cache: str | None,
) -> list[str]:
    """ONNX → engine and the list of its layers, without a run."""
    command = [
        *trtexec, f"--onnx={onnx}", f"--saveEngine={engine}", *precision_flags(version, settings),
        "--skipInference" if version >= (8, 6) else "--buildOnly",
    ]  # fmt: skip
    if workspace_mb is not None:
        command.append(f"--memPoolSize=workspace:{workspace_mb}")
    if version >= (8, 6):
        command.append(f"--builderOptimizationLevel={settings.get('optimization_level', 3)}")
    if timing_cache:
        command.append(f"--timingCacheFile={timing_cache}")
    if settings.get("sparsity"):
        command.append("--sparsity=enable")
    return [*command, "--profilingVerbosity=detailed", f"--exportLayerInfo={layers}", "--verbose"]


def time_command(
    trtexec: list[str],
    *,
    engine: str,
    times: str,
    version: Version,
    settings: dict[str, Any],
    transfers: bool,
    graph: bool,
    inputs: str = "",
) -> list[str]:
    """The times of single runs; `inputs` is what `loaded` gives."""
    return [
        *trtexec, f"--loadEngine={engine}",
        f"--warmUp={settings.get('warm_up_ms', WARM_UP_MS)}",
        f"--duration={settings.get('seconds', SECONDS):g}",
        f"--iterations={fewest_runs(settings)}",
        *timing_flags(version, transfers=transfers, graph=graph),
        *([inputs] if inputs else []),
        f"--exportTimes={times}",
    ]  # fmt: skip


def fewest_runs(settings: dict[str, Any]) -> int:
    """How many runs are timed at least: 299, where nobody says that less will do ("least") or wants more."""
    least = int(settings.get("least") or ITERATIONS)
    return max(least, int(settings.get("iterations") or least))


def profile_command(
    trtexec: list[str], *, engine: str, profile: str, layers: str, version: Version, settings: dict[str, Any]
) -> list[str]:
    """The time of each layer, and what each layer is."""
    return [
        *trtexec, f"--loadEngine={engine}",
        f"--warmUp={settings.get('warm_up_ms', WARM_UP_MS)}",
        f"--duration={settings.get('seconds', SECONDS):g}",
        f"--iterations={settings.get('iterations', 100)}",
        *profile_flags(version), f"--exportProfile={profile}",
        "--profilingVerbosity=detailed", f"--exportLayerInfo={layers}",
    ]  # fmt: skip


def answer_command(trtexec: list[str], *, engine: str, inputs: str, output: str, version: Version) -> list[str]:
    """One run, whose answers are kept."""
    return [*_one_run(trtexec, engine, version), inputs, f"--exportOutput={output}"]


def memory_command(trtexec: list[str], *, engine: str, version: Version) -> list[str]:
    """One run, with every line on memory."""
    return [*_one_run(trtexec, engine, version), "--verbose"]


def loaded(files: dict[str, str]) -> str:
    """The flag that loads raw files by the name of the input; a name that holds : or , stands in single quotes."""
    pairs = [f"'{name}':{file}" if set(name) & set(":,") else f"{name}:{file}" for name, file in files.items()]
    return "--loadInputs=" + ",".join(pairs)


def _one_run(trtexec: list[str], engine: str, version: Version) -> list[str]:
    once = ["--warmUp=0", "--duration=0", "--iterations=1"]
    return [*trtexec, f"--loadEngine={engine}", *once, *transfer_flags(version)]
