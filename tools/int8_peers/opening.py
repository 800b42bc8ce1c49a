"""A quantized file, ready to answer in one of the runtimes, and how much of it multiplies integers."""

import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.engines.onnx_operators import operators_of
from targets.engines.ort import OnnxRuntime, open_onnx
from targets.engines.session import open_session
from targets.runner import Runner

PRODUCTS = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul", "Deconvolution")  # OpenVINO's words


@dataclass
class OpenVinoRunner:
    """Answers through a compiled model of OpenVINO, an input at a time."""

    compiled: Any
    request: Any

    def __call__(self, inputs: NDArray[np.float32], /) -> NDArray[Any]:
        """(N, …) → (N, …)."""
        parts = [self._answer(inputs[place : place + 1]) for place in range(len(inputs))]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _answer(self, one: NDArray[np.float32]) -> NDArray[Any]:
        self.request.infer({0: one}, share_inputs=True)
        answer: NDArray[Any] = self.request.get_output_tensor(0).data.copy()
        return answer

    def close(self) -> None:
        """Let the model go."""
        self.request = self.compiled = None


def opened(path: Path, *, runtime: str, threads: int) -> Runner:
    """The file in `runtime`: "onnxruntime", "openvino", or "engine" for an engine file of ours."""
    match runtime:
        case "onnxruntime":
            return open_onnx(path, threads=threads)
        case "engine":
            return OnnxRuntime().open(path, threads=threads)
        case "openvino":
            return _in_openvino(path, threads=threads)
    raise ValueError(f"there is no runtime {runtime!r} here; there are onnxruntime, engine and openvino")


def integer_operators(path: Path, *, runtime: str, threads: int) -> tuple[int, int]:
    """(those that multiply integers, all) of the convolutions and matrix products, once the runtime has rewritten."""
    if runtime == "openvino":
        with closing(_in_openvino(path, threads=threads)) as runner:
            return _integer_in_openvino(runner.compiled)
    if runtime == "engine":
        found = operators_of(path)
    else:
        with tempfile.TemporaryDirectory() as folder:
            rewritten = Path(folder) / "rewritten.onnx"
            open_session(path, threads=threads, optimize=True, keep=rewritten)
            found = operators_of(rewritten)
    return found.integer, found.integer + found.floating


def _in_openvino(path: Path, *, threads: int) -> OpenVinoRunner:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # on a core that others use too, a pinned thread waits: 6.0 ms where 1.9 were due
    }  # fmt: skip
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return OpenVinoRunner(compiled, compiled.create_infer_request())


def _integer_in_openvino(compiled: Any) -> tuple[int, int]:
    integer = total = 0
    for operator in compiled.get_runtime_model().get_ordered_ops():
        facts = operator.get_rt_info()
        if "layerType" not in facts or _text(facts["layerType"]) not in PRODUCTS:
            continue
        total += 1
        integer += _text(facts["runtimePrecision"]) in ("i8", "u8", "I8", "U8")
    return integer, total


def _text(value: Any) -> str:
    return str(value.astype(str)) if hasattr(value, "astype") else str(value)
