"""The ONNX Runtime engine, on the processor.

The engine file is the graph as ONNX Runtime has rewritten it for this processor, with a stamp behind it. Four forms
were measured on a convolutional network of 0.27 ms and its quantized twin of 0.18 ms (ONNX Runtime 1.31, AVX2):

    .onnx, all rewrites, opened without further ones     same bits, speed ratio 0.996–1.002, opens in 0.6–0.9 ms
    .onnx, all rewrites, opened with all again           same answers and speed, opens in 1.1–1.2 ms
    .ort,  all rewrites                                  same answers and speed, opens as fast, 6–40 % larger,
                                                         and no reader but the runtime
    any, extended rewrites only, opened without more     float: other answers in the last bits, 1.7–2.0 times slower

So: .onnx with all rewrites, opened without further ones. Its operators can be read back.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.engines.layer_profile import layer_times_from_profile
from targets.engines.onnx_operators import operators_of
from targets.engines.own_process import peak_of_its_own
from targets.engines.session import every_output, onnx_runtime, open_session, runner_of
from targets.engines.stamp import Stamp, append_stamp, read_stamp, refuse_foreign
from targets.errors import EngineRefused
from targets.reach.local import describe_machine
from targets.runner import LayerTime, Operators, Place, Runner
from targets.whole_file import write_whole

WARMUP_RUNS = 5
PROFILED_RUNS = 25


@dataclass(frozen=True)
class OnnxRuntime:
    """Builds, opens and looks into engines of ONNX Runtime."""

    name: str = "onnxruntime"
    suffix: str = ".engine.onnx"
    joined: tuple[Place, ...] = ()
    optional: tuple[Place, ...] = ()

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f"{self.name} {onnx_runtime().__version__}"

    def build(self, onnx_path: Path, engine_path: Path, *, threads: int) -> None:
        """Rewrite the graph for this processor and write it, atomically."""
        if not onnx_path.is_file():
            raise EngineRefused(f"There is no ONNX file {onnx_path}. Export the model first.")
        machine = describe_machine()
        stamp = Stamp(self.runtime, machine.architecture, machine.cpu_features, threads)

        def write(beside: Path) -> None:
            session = open_session(onnx_path, threads=threads, optimize=True, keep=beside)
            runner_of(session, path=onnx_path).close()  # refuses here, not on the device, what cannot be run
            append_stamp(beside, stamp)

        write_whole(engine_path, write)

    def open(self, engine_path: Path, *, threads: int) -> Runner:
        """The engine, ready to answer; refused if it is damaged or was built elsewhere."""
        self._refuse_strange(engine_path)
        return runner_of(open_session(engine_path, threads=threads, optimize=False), path=engine_path)

    def outputs_of(self, onnx_path: Path, inputs: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """Every output of a file, by its optimised kernels."""
        return every_output(runner_of(open_session(onnx_path, threads=1, optimize=True), path=onnx_path), inputs)

    def operators(self, engine_path: Path) -> Operators:
        """Its convolutions and matrix products."""
        return operators_of(engine_path)

    def layer_times(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> tuple[LayerTime, ...]:
        """The median time of each operator over 25 runs of one batch, after 5 to warm up."""
        self._refuse_strange(engine_path)
        with tempfile.TemporaryDirectory() as folder:
            session = open_session(engine_path, threads=threads, optimize=False, profile=Path(folder) / "profile")
            runner = runner_of(session, path=engine_path)
            one_batch = inputs[: runner.door.fixed_batch]
            try:
                for _ in range(WARMUP_RUNS + PROFILED_RUNS):
                    runner(one_batch)
            finally:
                profile = Path(session.end_profiling())  # else the runtime writes it when the session dies
            runner.close()
            return layer_times_from_profile(profile, runs=PROFILED_RUNS)

    def peak_memory(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> int:
        """Bytes at the peak of a fresh process that opens the engine and answers one batch."""
        self._refuse_strange(engine_path)
        return peak_of_its_own(engine_path, inputs, threads=threads, runtime=self.name)

    def _refuse_strange(self, engine_path: Path) -> None:
        stamp = read_stamp(engine_path)
        refuse_foreign(stamp, path=engine_path, runtime=self.runtime, machine=describe_machine())


def open_onnx(onnx_path: Path, *, threads: int) -> Runner:
    """A plain ONNX file, rewritten in memory and ready to answer: the yardstick that an engine is timed against.

    Raises:
        EngineRefused: ONNX Runtime does not take the file.
    """
    return runner_of(open_session(onnx_path, threads=threads, optimize=True), path=onnx_path)
