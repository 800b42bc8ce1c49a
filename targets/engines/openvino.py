"""The OpenVINO engine, on the processor: an optional second runtime of x86.

The engine file is the model as OpenVINO has compiled it (`export_model`), with a stamp behind it. Three forms were
measured on ResNet-20 and ResNet-56 for CIFAR-10, in INT8 (OpenVINO 2026.4, AVX2; processor time to open):

    the ONNX file, compiled when it is opened         261 and 820 ms, 0.31 and 0.96 MB
    OpenVINO's own .xml and .bin, compiled then       300 and 834 ms, 0.65 and 1.91 MB, two files
    the compiled model, imported                       37 and  84 ms, 0.48 and 1.40 MB, the same answers bit by bit

Its integer convolutions gave the very codes of ONNX Runtime's, but a convolution that ends in a residual sum adds the
other branch before it rounds: the quantizer between them is dropped (`joined`). Given a file with both, 5
of 3 000 answers of a calibrated ResNet-20 were clearly others than the quantized network's in torch (0 of ONNX
Runtime's); on a network without sums none. So it is given a file without the one (pipeline/stages/further_engines.py).

What was compiled is read by the version that wrote it and by no other, which the stamp holds anyhow.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.engines.openvino_model import bytes_of, compiled_from_onnx, imported, openvino_module, runner_of_model
from targets.engines.openvino_operators import layer_times_in, operators_in_compiled
from targets.engines.own_process import peak_of_its_own
from targets.engines.session import every_output
from targets.engines.stamp import Stamp, append_stamp, read_stamped, refuse_foreign
from targets.errors import EngineRefused
from targets.reach.local import describe_machine
from targets.runner import LayerTime, Operators, Place, Runner
from targets.whole_file import write_whole

WARMUP_RUNS = 5
PROFILED_RUNS = 25


@dataclass(frozen=True)
class OpenVino:
    """Builds, opens and looks into engines of OpenVINO."""

    name: str = "openvino"
    suffix: str = ".openvino"
    joined: tuple[Place, ...] = (Place.SUM, Place.FUNCTION)
    optional: tuple[Place, ...] = (Place.POOLING, Place.DEPTHWISE)

    @property
    def runtime(self) -> str:
        """Name and version, without the number of the build."""
        return f"{self.name} {openvino_module().__version__.split('-')[0]}"

    def build(self, onnx_path: Path, engine_path: Path, *, threads: int) -> None:
        """Compile the file for this processor and write it, atomically."""
        if not onnx_path.is_file():
            raise EngineRefused(f"There is no ONNX file {onnx_path}. Export the model first.")
        machine = describe_machine()
        stamp = Stamp(self.runtime, machine.architecture, machine.cpu_features, threads)
        model = compiled_from_onnx(onnx_path, threads=threads)
        runner_of_model(model, path=onnx_path).close()  # refuses here, not on the device, what cannot be run

        def write(beside: Path) -> None:
            beside.write_bytes(bytes_of(model))
            append_stamp(beside, stamp)

        write_whole(engine_path, write)

    def open(self, engine_path: Path, *, threads: int) -> Runner:
        """The engine, ready to answer; refused if it is damaged or was built elsewhere."""
        return runner_of_model(self._imported(engine_path, threads=threads), path=engine_path)

    def outputs_of(self, onnx_path: Path, inputs: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """Every output of a file, compiled as an engine is."""
        return every_output(runner_of_model(compiled_from_onnx(onnx_path, threads=1), path=onnx_path), inputs)

    def operators(self, engine_path: Path) -> Operators:
        """Its convolutions and matrix products, with the kernels that were chosen for this processor."""
        return operators_in_compiled(self._imported(engine_path, threads=1))

    def layer_times(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> tuple[LayerTime, ...]:
        """The median time of each operator over 25 runs of one batch, after 5 to warm up."""
        runner = runner_of_model(self._imported(engine_path, threads=threads, profile=True), path=engine_path)
        one_batch = inputs[: runner.door.fixed_batch]
        seen = []
        for _ in range(WARMUP_RUNS + PROFILED_RUNS):
            runner(one_batch)
            seen.append(runner.session.request.get_profiling_info())
        runner.close()
        return layer_times_in(seen[WARMUP_RUNS:])

    def peak_memory(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> int:
        """Bytes at the peak of a fresh process that opens the engine and answers one batch."""
        read_stamped(engine_path)
        return peak_of_its_own(engine_path, inputs, threads=threads, runtime=self.name)

    def _imported(self, engine_path: Path, *, threads: int, profile: bool = False) -> Any:
        stamp, kept = read_stamped(engine_path)
        refuse_foreign(stamp, path=engine_path, runtime=self.runtime, machine=describe_machine())
        return imported(kept, path=engine_path, threads=threads, profile=profile)
