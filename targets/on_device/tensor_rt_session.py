"""A plan that is open: answers, times by the GPU's own clock, times of layers; TensorRT's Python API of 10.x and 11.x.

Inputs and outputs have fixed shapes and lie on the GPU; copies go through pinned memory. Classes stand beside names as
in tensor_rt_builder.py, for the same test.
"""

from __future__ import annotations

import ctypes
import gc
import math
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from targets.on_device.failures import OnDeviceFailure
from targets.on_device.tensor_rt_numbers import ITEM, as_float32
from targets.on_device.trtexec_commands import SECONDS, WARM_UP_MS, fewest_runs

if TYPE_CHECKING:
    from collections.abc import Callable

    import tensorrt as trt  # type: ignore[import-not-found, unused-ignore]

    from targets.on_device.cudart import Cuda

PROFILED = 100  # runs for the median of each layer


@dataclass(frozen=True)
class Place:
    """Where one input or output lies: on the GPU, and in pinned memory."""

    name: str
    kind: str
    shape: tuple[int, ...]
    gpu: int
    host: int

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * ITEM[self.kind]


@dataclass(frozen=True)
class Session:
    """engine and context of one plan, with its places in memory."""

    engine: trt.ICudaEngine
    context: trt.IExecutionContext
    cuda: Cuda
    stream: int
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]

    @property
    def batch(self) -> int:
        """How many inputs are answered at once."""
        return self.inputs[0].shape[0]

    def fill(self, contents: dict[str, bytes]) -> None:
        """Put inputs on the GPU; those not named are zeros."""
        unknown = sorted(set(contents) - {place.name for place in self.inputs})
        if unknown:
            names = ", ".join(place.name for place in self.inputs)
            raise OnDeviceFailure("usage", f"the engine has no input {unknown[0]}; it has {names}.")
        for place in self.inputs:
            content = contents.get(place.name, bytes(place.size))
            if len(content) != place.size:
                raise OnDeviceFailure(
                    "usage", f"input {place.name} is brought with {len(content)} bytes per batch; the engine takes "
                    f"{place.size}: {place.kind}, shape {list(place.shape)}.",
                )  # fmt: skip
            ctypes.memmove(place.host, content, place.size)
        self._copy_in()
        self.cuda.wait(self.stream)

    def run(self) -> None:
        """Once, to its end."""
        self._enqueue()
        self.cuda.wait(self.stream)

    def answer(self, contents: dict[str, bytes]) -> list[dict[str, Any]]:
        """[{"name", "shape", "raw"}], raw in float32."""
        self.fill(contents)
        self._enqueue()
        self._copy_out()
        self.cuda.wait(self.stream)
        return [
            {
                "name": place.name, "shape": list(place.shape),
                "raw": as_float32(ctypes.string_at(place.host, place.size), kind=place.kind),
            }
            for place in self.outputs
        ]  # fmt: skip

    def times(self, settings: dict[str, Any], *, transfers: bool, graph: bool) -> dict[str, Any]:
        """{"compute_ms", "latency_ms", "graph"} of each run; latency is compute where nothing is transferred."""
        launch = self._recorded() if graph else None
        points = [self.cuda.event() for _ in range(4)]
        compute: list[float] = []
        latency: list[float] = []
        gc.disable()
        self._repeat(lambda: self._timed(launch, points, transfers=transfers), self._warm_up(settings))
        least = fewest_runs(settings)
        ends = time.perf_counter() + settings.get("seconds", SECONDS)
        while len(compute) < least or time.perf_counter() < ends:
            self._timed(launch, points, transfers=transfers)
            compute.append(self.cuda.elapsed_ms(points[1], points[2]))
            latency.append(self.cuda.elapsed_ms(points[0], points[3]) if transfers else compute[-1])
        return {"compute_ms": compute, "latency_ms": latency, "graph": launch is not None}

    def layer_times(self, settings: dict[str, Any]) -> dict[str, float]:
        """Layer → median in ms."""
        self._repeat(self.run, self._warm_up(settings))
        times: dict[str, list[float]] = {}
        profiler = _profiler(times)
        self.context.profiler = profiler
        for _ in range(settings.get("profiled", PROFILED)):
            self.run()
        return {name: median(found) for name, found in times.items()}

    def information(self) -> str:
        """What the engine inspector says, as JSON."""
        import tensorrt as trt

        inspector: trt.EngineInspector = self.engine.create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def _timed(self, launch: int | None, points: list[int], *, transfers: bool) -> None:
        self.cuda.record(points[0], stream=self.stream)
        if transfers:
            self._copy_in()
        self.cuda.record(points[1], stream=self.stream)
        if launch is None:
            self._enqueue()
        else:
            self.cuda.launch(launch, stream=self.stream)
        self.cuda.record(points[2], stream=self.stream)
        if transfers:
            self._copy_out()
        self.cuda.record(points[3], stream=self.stream)
        self.cuda.wait(self.stream)

    def _recorded(self) -> int | None:
        """One run as a CUDA graph; None where it cannot be recorded."""
        self.run()  # what is made at the first run cannot be recorded
        self.cuda.begin_graph(self.stream)
        try:
            self._enqueue()
            return self.cuda.end_graph(self.stream)
        except OnDeviceFailure:
            self.cuda.drop_graph(self.stream)
            return None

    def _enqueue(self) -> None:
        if not self.context.execute_async_v3(self.stream):
            raise OnDeviceFailure("failed", "TensorRT did not run the engine; its log says why.")

    def _copy_in(self) -> None:
        for place in self.inputs:
            self.cuda.to_gpu(place.gpu, place.host, place.size, stream=self.stream)

    def _copy_out(self) -> None:
        for place in self.outputs:
            self.cuda.from_gpu(place.host, place.gpu, place.size, stream=self.stream)

    def _warm_up(self, settings: dict[str, Any]) -> float:
        return float(settings.get("warm_up_ms", WARM_UP_MS)) / 1000

    def _repeat(self, call: Callable[[], None], seconds: float) -> None:
        ends = time.perf_counter() + seconds
        call()
        while time.perf_counter() < ends:
            call()


def open_session(path: Path, cuda: Cuda) -> Session:
    """The plan, on the GPU."""
    import tensorrt as trt

    logger: trt.Logger = trt.Logger(trt.Logger.WARNING)
    runtime: trt.Runtime = trt.Runtime(logger)
    engine: trt.ICudaEngine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise OnDeviceFailure("refused", f"TensorRT does not open {path.name}: it is damaged, or was built elsewhere.")
    context: trt.IExecutionContext = engine.create_execution_context()
    if context is None:
        raise OnDeviceFailure("failed", f"TensorRT opens {path.name} and finds no memory to run it. Free some.")
    places: tuple[list[Place], list[Place]] = ([], [])
    for number in range(engine.num_io_tensors):
        name = str(engine.get_tensor_name(number))
        place = _place(engine, name, cuda)
        context.set_tensor_address(name, place.gpu)
        places[engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT].append(place)
    return Session(engine, context, cuda, cuda.stream(), tuple(places[0]), tuple(places[1]))


def _place(engine: trt.ICudaEngine, name: str, cuda: Cuda) -> Place:
    kind: trt.DataType = engine.get_tensor_dtype(name)
    shape = tuple(int(length) for length in engine.get_tensor_shape(name))
    if kind.name not in ITEM or not shape or min(shape) < 1:
        raise OnDeviceFailure(
            "refused", f"{name} has the type {kind.name} and the shape {list(shape)}; fixed shapes of "
            f"{', '.join(ITEM)} are taken here.",
        )  # fmt: skip
    size = math.prod(shape) * ITEM[kind.name]
    return Place(name, str(kind.name), shape, cuda.allocate(size), cuda.pinned(size))


def _profiler(times: dict[str, list[float]]) -> Any:
    import tensorrt as trt

    def report_layer_time(self: Any, layer_name: str, ms: float) -> None:
        times.setdefault(layer_name, []).append(ms)

    return type("LayerTimes", (trt.IProfiler,), {"report_layer_time": report_layer_time})()
