"""What a runtime must be able to do: the two interfaces that everything above the engines talks to.

A Runner answers a batch. An Engine turns an ONNX file into an engine file, opens it, and says what is inside. Files
of `targets/engines/` provide them; nothing here imports a runtime.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Runner(Protocol):
    """Something that answers a batch. Close it with `contextlib.closing`."""

    def __call__(self, inputs: NDArray[np.float32], /) -> NDArray[Any]:
        """One answer per input: (N, …) → (N, …). Any N: a fixed batch size of the engine is the runner's business.

        Raises:
            EngineFailed: the engine cannot answer this batch.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...


@dataclass(frozen=True)
class OperatorRow:
    """One convolution or matrix product of the engine, and whether it multiplies integers."""

    name: str
    kind: str  # the runtime's own word, for example QLinearConv
    integer: bool
    why: str  # empty for an integer one


@dataclass(frozen=True)
class Operators:
    """How much of the engine's arithmetic is integer: convolutions and matrix products only."""

    integer: int
    floating: int
    rows: tuple[OperatorRow, ...]


@dataclass(frozen=True)
class LayerTime:
    """One operator of the running engine, in the order of execution."""

    name: str
    kind: str
    integer: bool  # reads or writes 8-bit integers
    median_ms: float


class Place(Enum):
    """Where a quantizer stands: before what."""

    SUM = "residual sums"
    FUNCTION = "activation functions"
    POOLING = "pooling"
    DEPTHWISE = "depthwise convolutions"


class Engine(Protocol):
    """A runtime. File paths in, engine files and runners out."""

    @property
    def name(self) -> str:
        """The runtime's name, for example onnxruntime."""
        ...

    @property
    def runtime(self) -> str:
        """Name and version, as a measurement records it.

        Raises:
            EngineMissing: it is not installed; the message says how to install it.
        """
        ...

    @property
    def suffix(self) -> str:
        """How its engine files end, with the dot."""
        ...

    @property
    def joined(self) -> tuple[Place, ...]:
        """What it computes in one kernel with the layer before, rounding once, if no quantizer stands between."""
        ...

    @property
    def optional(self) -> tuple[Place, ...]:
        """Before what else it may be faster without quantizers: the clock decides."""
        ...

    def build(self, onnx_path: Path, engine_path: Path, *, threads: int) -> None:
        """Write the engine file, atomically.

        Raises:
            EngineRefused: the runtime does not take this model.
        """
        ...

    def open(self, engine_path: Path, *, threads: int) -> Runner:
        """The engine, ready to answer.

        Raises:
            EngineRefused: corrupt, or built by another version or for another processor.
        """
        ...

    def outputs_of(self, onnx_path: Path, inputs: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """Every output that an ONNX file states, (N, …) each, by the kernels of its engines; one input at a time.

        Raises:
            EngineRefused: the runtime does not take this model.
        """
        ...

    def operators(self, engine_path: Path) -> Operators:
        """Which of its convolutions and matrix products are integer, and why the others are not."""
        ...

    def layer_times(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> tuple[LayerTime, ...]:
        """The median time of each operator over at least twenty runs of one batch."""
        ...

    def peak_memory(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> int:
        """Bytes that a fresh process needs at its peak to open the engine and answer one batch."""
        ...
