"""The engine of a bundle, opened in the runtime that it was measured in, or its model.onnx; for `run.py` beside it.

Stands in a bundle: Python 3.8 or later, numpy, and onnxruntime or openvino.
"""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

# How the runtimes name what an input is made of.
KINDS = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64", "tensor(int32)": "int32",
    "f32": "float32", "f16": "float16", "i64": "int64", "i32": "int32",
}  # fmt: skip


class EngineUnusable(Exception):
    """The message is the end of a sentence: why the engine cannot be used here."""


def is_here(package: str) -> bool:
    """Whether it can be imported."""
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def session_of(engine: Path, runtime: str, *, threads: int) -> Any:
    """The engine in the runtime it was measured in; what is raised says why not, for a sentence."""
    if not runtime.startswith(("onnxruntime", "openvino")):
        raise EngineUnusable(f"it is for {runtime}, and this runner answers with onnxruntime, openvino or tensorrt")
    if not engine.is_file():
        raise EngineUnusable("it is not there")
    package = "openvino" if runtime.startswith("openvino") else "onnxruntime"
    if not is_here(package):
        raise EngineUnusable(
            f"{package} is not installed: {sys.executable} -m pip install {runtime.replace(' ', '==')}"
        )
    from built_for import model_and_stamp, why_not_here  # type: ignore[import-not-found]

    try:
        model, stamp = model_and_stamp(engine)
    except (OSError, ValueError) as error:
        raise EngineUnusable(first_line(error)) from error
    foreign = why_not_here(stamp)
    if foreign:
        raise EngineUnusable(foreign)
    try:
        if package == "openvino":
            return OpenVinoSession(model, str(stamp.get("runtime")), threads=threads)
        # The file holds the graph as it was optimised for the device: what was measured is what runs.
        return onnx_session(engine, threads=threads, optimize=False)
    except EngineUnusable:
        raise
    except Exception as error:
        version = getattr(import_module(package), "__version__", "")
        raise EngineUnusable(f"{package} {version} does not load it here: {first_line(error)}") from error


def onnx_session(path: Path, *, threads: int, optimize: bool) -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else a thread is started for it, from 1.31 on
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # as it was measured
    options.log_severity_level = 4  # a failure is told once, by our own sentence
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OpenVinoSession:
    """An engine of openvino, asked with the two calls of a session of onnxruntime."""

    def __init__(self, model: bytes, built_by: str, *, threads: int) -> None:
        import openvino

        here = f"openvino {openvino.__version__.split('-')[0]}"
        if built_by != here:  # another version reads other bytes into it
            raise EngineUnusable(f"it was built by {built_by}, and installed is {here}")
        settings = {
            "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False,
        }  # fmt: skip
        compiled = openvino.Core().import_model(io.BytesIO(model), "CPU", settings)  # as it was measured
        door = compiled.inputs[0]
        self.name, self.type = door.get_any_name(), door.get_element_type().get_type_name()
        self.shape = [axis.get_length() if axis.is_static else "N" for axis in door.get_partial_shape()]
        self.request = compiled.create_infer_request()
        self.outputs = len(compiled.outputs)

    def get_inputs(self) -> list[OpenVinoSession]:
        return [self]

    def run(self, _outputs: None, asked: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        answers = self.request.infer([asked[self.name]])
        return [answers[place] for place in range(self.outputs)]


def first_line(error: Exception) -> str:
    """What the runtime says, without its trace."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
