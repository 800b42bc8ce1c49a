"""The engine of a device that this program cannot reach: nothing is built, opened or timed, and a sentence says so."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from targets.errors import DeviceMissing
from targets.runner import LayerTime, Operators, Place, Runner

UNBUILT = "unbuilt"  # the name of what stands in for such an engine on this machine (unbuilt.py)


@dataclass(frozen=True)
class Absent:
    """A runtime on a device elsewhere, such as TensorRT on a Jetson.

    device: the target's name
    """

    name: str
    device: str
    suffix: str = ".onnx"
    joined: tuple[Place, ...] = ()
    optional: tuple[Place, ...] = ()

    @property
    def runtime(self) -> str:
        """There is none here; raises DeviceMissing."""
        raise DeviceMissing(
            f"{self.name} runs on {self.device} itself, and no device was given: what is made here is the ONNX file "
            "that an engine is built from there."
        )

    def build(self, onnx_path: Path, engine_path: Path, *, threads: int) -> None:
        """Raises DeviceMissing."""
        self._refuse("built")

    def open(self, engine_path: Path, *, threads: int) -> Runner:
        """Raises DeviceMissing."""
        self._refuse("opened")

    def outputs_of(self, onnx_path: Path, inputs: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """Raises DeviceMissing."""
        self._refuse("asked")

    def operators(self, engine_path: Path) -> Operators:
        """Raises DeviceMissing."""
        self._refuse("looked into")

    def layer_times(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> tuple[LayerTime, ...]:
        """Raises DeviceMissing."""
        self._refuse("timed")

    def peak_memory(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> int:
        """Raises DeviceMissing."""
        self._refuse("measured")

    def _refuse(self, what: str) -> NoReturn:
        raise DeviceMissing(
            f"An engine of {self.name} for {self.device} is {what} on that device only, and none was given. "
            "Build it there from the bundle's lowered ONNX."
        )


def is_unbuilt(runtime: str) -> bool:
    """Whether this is the runtime of a file that no engine was built from yet."""
    return runtime.split(" ")[0] == UNBUILT


def not_measured(device: str) -> str:
    """Why there is no time, no speed-up and no memory."""
    return f"not measured on {device}: no device was given"
