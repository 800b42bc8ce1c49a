"""Sessions of ONNX Runtime on a device: opened as `targets/engines/session.py` opens them, and what they were told.

An engine is the graph with all rewrites for this processor; it is opened without further ones, which gives the same
bits. Threads rest when an answer is there. `precision_mode` is ONNX Runtime's session.x64quantprecision: on x86
without VNNI it makes the integer products exact, elsewhere it changes nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from targets.on_device.failures import OnDeviceFailure

if TYPE_CHECKING:
    from pathlib import Path

ERRORS_ONLY = 3  # ONNX Runtime's log severity
PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],  # what CUDA has no kernel for runs on the processor
}
LONGEST_QUOTE = 240  # of the runtime's own words, in characters


@dataclass(frozen=True)
class Settings:
    """What a session is told."""

    threads: int
    provider: str
    precision_mode: bool

    def as_json(self, *, rewrites: bool) -> dict[str, Any]:
        """All of it, for the manifest."""
        return {
            "threads": self.threads,
            "provider": self.provider,
            "precision_mode": self.precision_mode,
            "graph": "ORT_ENABLE_ALL" if rewrites else "ORT_DISABLE_ALL",
            "execution": "ORT_SEQUENTIAL",
            "entries": self.entries(),
        }

    def entries(self) -> dict[str, str]:
        """The session's own settings, by ONNX Runtime's names."""
        entries = {"session.force_spinning_stop": "1"}
        if self.precision_mode:
            entries["session.x64quantprecision"] = "1"
        return entries


def settings_of(job: dict[str, Any]) -> Settings:
    """The settings in a job; what it leaves out has the value that is used on the host."""
    asked = job.get("settings") or {}
    threads, provider = whole_number(job, "threads", 1), asked.get("provider", "cpu")
    if provider not in PROVIDERS:
        raise OnDeviceFailure("usage", f"the provider is {provider!r}; known are {', '.join(PROVIDERS)}.")
    return Settings(threads, provider, bool(asked.get("precision_mode", False)))


def whole_number(job: dict[str, Any], name: str, default: int) -> int:
    """A setting that counts something."""
    value = (job.get("settings") or {}).get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OnDeviceFailure("usage", f"{name} is {value!r}; a whole number from 1 on is wanted.")
    return value


def onnx_runtime() -> Any:
    """The module."""
    try:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else a thread is started for it, from 1.31 on
        import onnxruntime
    except ImportError as error:
        raise OnDeviceFailure(
            "missing",
            f"ONNX Runtime cannot be imported on the device ({quoted(error)}). Install it there: "
            "python3 -m pip install onnxruntime",
        ) from error
    return onnxruntime


def runtime_name() -> str:
    """Name and version."""
    return f"onnxruntime {onnx_runtime().__version__}"


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: a dozen classes with no ancestor but Exception, and two of Python's own."""
    onnx_runtime()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception)]
    return (*own, RuntimeError, ValueError)


def open_session(path: Path, settings: Settings, *, keep: Path | None = None, profile: Path | None = None) -> Any:
    """A session on this file.

    keep: where to write the graph with all rewrites; without it the file is taken as it is
    profile: beginning of the name of the file with the times of each operator
    """
    runtime = onnx_runtime()
    if not path.is_file():
        raise OnDeviceFailure("missing", f"there is no file {path.name} in the folder of the job.")
    refuse_absent_provider(runtime, settings)
    options = runtime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    for name, value in settings.entries().items():
        options.add_session_config_entry(name, value)
    levels = runtime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if keep is None else levels.ORT_ENABLE_ALL
    if keep is not None:
        options.optimized_model_filepath = str(keep)
        options.add_session_config_entry("session.save_model_format", "ONNX")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        session = runtime.InferenceSession(str(path), options, providers=PROVIDERS[settings.provider])
    except runtime_errors() as error:
        raise OnDeviceFailure("refused", f"ONNX Runtime does not take {path.name}: {quoted(error)}") from error
    if PROVIDERS[settings.provider][0] not in session.get_providers():  # it falls back without an error
        raise OnDeviceFailure(
            "missing",
            f"ONNX Runtime could not start {PROVIDERS[settings.provider][0]} here: its libraries (CUDA, cuDNN) are not "
            "found or are of another version. Its own words are in the log of the job.",
        )
    return session


def refuse_absent_provider(runtime: Any, settings: Settings) -> None:
    """Pass a provider that this build of the runtime has."""
    wanted, there = PROVIDERS[settings.provider][0], runtime.get_available_providers()
    if wanted not in there:
        raise OnDeviceFailure(
            "missing",
            f"ONNX Runtime {runtime.__version__} on the device has no {wanted}; it has {', '.join(there)}. "
            "Install a build with it, such as onnxruntime-gpu.",
        )


def quoted(error: BaseException) -> str:
    """The first line of what was said, not too long."""
    lines = str(error).strip().splitlines()
    words = lines[0] if lines else type(error).__name__
    return words if len(words) <= LONGEST_QUOTE else words[: LONGEST_QUOTE - 1] + "…"
