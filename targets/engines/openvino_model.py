"""OpenVINO's models on the processor: how they are compiled here, and the runner that asks one.

Imports numpy and OpenVINO only, and the latter when it is needed: the memory probe measures a process that holds
nothing else.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.engines.session import Door, SessionRunner
from targets.errors import EngineMissing, EngineRefused

DEVICE = "CPU"
ERRORS: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError)  # what its bindings raise


def openvino_module() -> Any:
    """The module.

    Raises:
        EngineMissing: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise EngineMissing(
            f"OpenVINO cannot be imported ({error}). Install it with: pip install 'edge-compress[openvino]'"
        ) from error
    return openvino


def settings(*, threads: int) -> dict[str, Any]:
    """How a model is compiled: one answer at a time, on this many threads, with what is float in single precision.

    Single precision is stated because OpenVINO by itself computes in bfloat16 on processors that have it: the engine
    would then answer otherwise than the network that was trained. Threads are not bound to cores: bound to one, the
    thread took 12 % longer on a machine that did other work too.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }


def compiled_from_onnx(path: Path, *, threads: int) -> Any:
    """An ONNX file, compiled for this processor.

    Raises:
        EngineRefused: OpenVINO does not take the file.
    """
    runtime = openvino_module()
    try:
        return runtime.Core().compile_model(str(path), DEVICE, settings(threads=threads))
    except ERRORS as error:
        raise EngineRefused(f"OpenVINO does not take {path}: {reason(error)}") from error


def bytes_of(model: Any) -> bytes:
    """A compiled model as it can be kept: the graph after OpenVINO's own rewriting."""
    exported = model.export_model()
    return bytes(exported.getvalue() if isinstance(exported, io.BytesIO) else exported)


def imported(kept: bytes, *, path: Path, threads: int, profile: bool = False) -> Any:
    """A compiled model from `bytes_of`.

    profile: take the time of each operator while it runs

    Raises:
        EngineRefused: OpenVINO does not take it.
    """
    runtime = openvino_module()
    wanted = settings(threads=threads) | ({"PERF_COUNT": True} if profile else {})
    try:
        return runtime.Core().import_model(io.BytesIO(kept), DEVICE, wanted)
    except ERRORS as error:
        raise EngineRefused(f"OpenVINO does not take {path}: {reason(error)}") from error


def door_of_model(model: Any, *, path: Path) -> Door:
    """The input through which a compiled model is asked.

    Raises:
        EngineRefused: it has several inputs, or one of a type that is not asked with numbers.
    """
    if len(model.inputs) != 1:
        names = ", ".join(each.get_any_name() for each in model.inputs)
        raise EngineRefused(
            f"{path} has {len(model.inputs)} inputs ({names}); models with exactly one can be run here."
        )
    door = model.inputs[0]
    dtypes: dict[str, type[np.generic]] = {
        "f32": np.float32, "f16": np.float16, "u8": np.uint8, "i64": np.int64, "i32": np.int32,
    }  # fmt: skip
    kind = door.get_element_type().get_type_name()
    if kind not in dtypes:
        raise EngineRefused(f"The input of {path} is a {kind}; known are {', '.join(dtypes)}.")
    shape = door.get_partial_shape()
    batch = shape[0].get_length() if len(shape) and shape[0].is_static else None
    return Door(door.get_any_name(), dtypes[kind], batch)


@dataclass(frozen=True)
class Request:
    """A compiled model that is asked as a session of ONNX Runtime is.

    door: the input's own memory, where the model's shapes are fixed. Writing into it costs a copy of the input; handing
    an array over instead made a network of 0.75 ms take 1.0 ms (OpenVINO 2026.4, ResNet-20 in INT8).
    outputs: how many there are
    """

    request: Any
    door: NDArray[Any] | None
    outputs: int

    def run(self, _outputs: None, asked: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Every output, in memory of its own."""
        (inputs,) = asked.values()
        if self.door is None:
            answers = self.request.infer([inputs])
            return [np.array(answers[place]) for place in range(self.outputs)]
        if inputs.shape != self.door.shape:  # numpy would broadcast some
            raise ValueError(f"the model takes {self.door.shape}")
        self.door[...] = inputs
        self.request.infer(share_outputs=True)
        return [np.array(self.request.get_output_tensor(place).data) for place in range(self.outputs)]


def runner_of_model(model: Any, *, path: Path) -> SessionRunner:
    """The runner that answers through this compiled model."""
    door = door_of_model(model, path=path)
    request = model.create_infer_request()
    fixed = model.inputs[0].get_partial_shape().is_static
    memory = request.get_input_tensor().data if fixed else None
    return SessionRunner(Request(request, memory, len(model.outputs)), door, ERRORS)


def reason(error: Exception) -> str:
    """OpenVINO's message without the places in its source: the last line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception from ")]
    return (told or lines or [type(error).__name__])[-1]
