"""The engine of the null device: it copies the model and answers zeros of the right shape, instantly."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from targets.errors import EngineRefused
from targets.runner import LayerTime, Operators, Place, Runner
from targets.whole_file import write_whole


@dataclass(frozen=True)
class ZeroRunner:
    """Answers zeros."""

    answer_shape: tuple[int, ...]  # of one answer, without the batch axis

    def __call__(self, inputs: NDArray[np.float32], /) -> NDArray[Any]:
        """Zeros: (N, …) → (N, …)."""
        return np.zeros((len(inputs), *self.answer_shape), dtype=np.float32)

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True)
class Nothing:
    """Builds by copying; looks into nothing."""

    name: str = "nothing"
    runtime: str = "nothing 1"
    suffix: str = ".null.onnx"
    joined: tuple[Place, ...] = ()
    optional: tuple[Place, ...] = ()

    def build(self, onnx_path: Path, engine_path: Path, *, threads: int) -> None:
        """A copy of the ONNX file, if it can be read."""
        _answer_shape(onnx_path)

        def write(beside: Path) -> None:
            shutil.copyfile(onnx_path, beside)

        write_whole(engine_path, write)

    def open(self, engine_path: Path, *, threads: int) -> Runner:
        """A runner that answers zeros of the shape that the model states."""
        return ZeroRunner(_answer_shape(engine_path))

    def outputs_of(self, onnx_path: Path, inputs: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """None."""
        return ()

    def operators(self, engine_path: Path) -> Operators:
        """None."""
        return Operators(integer=0, floating=0, rows=())

    def layer_times(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> tuple[LayerTime, ...]:
        """None."""
        return ()

    def peak_memory(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> int:
        """None."""
        return 0


def _answer_shape(path: Path) -> tuple[int, ...]:
    """The shape of one answer as the model states it, several outputs joined; a free axis counts as one.

    Raises:
        EngineRefused: not a readable ONNX file, or one that does not state the shape of its output.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # the parser's own classes differ between versions of protobuf
        raise EngineRefused(f"{path} cannot be read as ONNX: {error}") from error
    outputs = model.graph.output
    if not outputs or not all(each.type.tensor_type.HasField("shape") for each in outputs):
        raise EngineRefused(f"{path} does not state the shape of its output. Export it with shapes.")
    shapes = [tuple(axis.dim_value or 1 for axis in each.type.tensor_type.shape.dim[1:]) for each in outputs]
    return shapes[0] if len(shapes) == 1 else (sum(math.prod(shape) for shape in shapes),)
