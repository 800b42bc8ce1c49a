"""What stands in for the engine of a device that is not here: the lowered ONNX file, from which the device builds.

It is a copy of that file. It answers as the file is written, operator by operator in ONNX Runtime without rewriting:
that is what an engine must answer too, and how far it is the network's own answer can be checked without the device. It
has no times: what another machine needs says nothing about the device.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
from numpy.typing import NDArray

from targets.engines.absent import UNBUILT, not_measured
from targets.engines.onnx_operators import products_quantized
from targets.engines.session import every_output, onnx_runtime, open_session, runner_of
from targets.errors import DeviceMissing, EngineRefused
from targets.runner import LayerTime, Operators, Place, Runner
from targets.whole_file import write_whole


@dataclass(frozen=True)
class Unbuilt:
    """Copies the lowered ONNX file; answers as it is written.

    device: the target's name · builds_with: the runtime that makes an engine of it there
    """

    device: str
    builds_with: str
    name: str = UNBUILT
    suffix: str = ".unbuilt.onnx"
    joined: tuple[Place, ...] = ()
    optional: tuple[Place, ...] = ()

    @property
    def runtime(self) -> str:
        """Who builds, where, and what answered in its place."""
        return f"{self.name} ONNX for {self.builds_with} on {self.device}, answered by ONNX Runtime {_version()}"

    def build(self, onnx_path: Path, engine_path: Path, *, threads: int) -> None:
        """A copy of the file, if ONNX Runtime can answer with it."""
        if not onnx_path.is_file():
            raise EngineRefused(f"There is no ONNX file {onnx_path}. Export the model first.")
        self.open(onnx_path, threads=threads).close()

        def write(beside: Path) -> None:
            shutil.copyfile(onnx_path, beside)

        write_whole(engine_path, write)

    def open(self, engine_path: Path, *, threads: int) -> Runner:
        """The file, run as it is written."""
        return runner_of(open_session(engine_path, threads=threads, optimize=False), path=engine_path)

    def outputs_of(self, onnx_path: Path, inputs: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """Every output of a file, as it is written."""
        return every_output(runner_of(open_session(onnx_path, threads=1, optimize=False), path=onnx_path), inputs)

    def operators(self, engine_path: Path) -> Operators:
        """Which products the file quantizes; whether the device multiplies integers there is seen only on it."""
        return products_quantized(onnx.load(str(engine_path), load_external_data=False))

    def layer_times(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> tuple[LayerTime, ...]:
        """None without the device; raises DeviceMissing."""
        self._refuse()

    def peak_memory(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> int:
        """Not known without the device; raises DeviceMissing."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise DeviceMissing(not_measured(self.device))


def _version() -> str:
    return str(onnx_runtime().__version__)
