"""ONNX → plan with TensorRT's Python API, of 10.x and 11.x.

Every object of TensorRT has its class written beside it, and a name that not every version has stands under an `if` on
`version`: a test reads both and holds them against the names of each version.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.on_device.events import progress
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.tensor_rt_versions import STRONG_ALONE_FROM, strongly_typed, version_from_name

if TYPE_CHECKING:
    import tensorrt as trt  # type: ignore[import-not-found, unused-ignore]

BYTES_PER_MIB = 1024 * 1024


def built(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """{"information"}: what the inspector says of the engine, which lies in the folder."""
    import tensorrt as trt

    settings = asked["settings"]
    version = version_from_name(trt.__version__)
    strong = strongly_typed(version, settings)
    logger: trt.Logger = trt.Logger(trt.Logger.WARNING)
    builder: trt.Builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if strong else 0
    network: trt.INetworkDefinition = builder.create_network(flags)
    parser: trt.OnnxParser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(folder / asked["onnx"])):
        raise OnDeviceFailure("refused", f"the builder does not take {asked['onnx']}: {_complaint(parser)}.")

    config: trt.IBuilderConfig = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = settings.get("optimization_level", 3)
    if version < STRONG_ALONE_FROM and not strong:
        config.set_flag(trt.BuilderFlag.FP16)
        if settings.get("mode", "int8") == "int8":
            config.set_flag(trt.BuilderFlag.INT8)
    if settings.get("sparsity"):
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if asked.get("workspace_mb"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, asked["workspace_mb"] * BYTES_PER_MIB)
    _load_times(config, Path(asked["timing_cache"]))
    monitor = _monitor()
    config.progress_monitor = monitor

    plan: trt.IHostMemory = builder.build_serialized_network(network, config)
    if plan is None:
        raise OnDeviceFailure("refused", f"the builder builds no engine of {asked['onnx']}; its log says why.")
    content = bytes(memoryview(plan))
    (folder / asked["engine"]).write_bytes(content)
    _keep_times(config, Path(asked["timing_cache"]))
    return {"information": _information(content, logger)}


def _complaint(parser: trt.OnnxParser) -> str:
    """The parser's first error, with the node it is about."""
    if not parser.num_errors:
        return "it does not say why"
    error: trt.ParserError = parser.get_error(0)
    node, kind = str(error.node_name()), str(error.node_operator())
    said = " ".join(str(error.desc()).split())[:230]
    return f"{said} (node {node}, {kind})" if node else said


def _load_times(config: trt.IBuilderConfig, path: Path) -> None:
    """Times that an earlier build has kept; those of another TensorRT or GPU are left aside by TensorRT."""
    held: trt.ITimingCache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if held is not None:
        config.set_timing_cache(held, False)


def _keep_times(config: trt.IBuilderConfig, path: Path) -> None:
    held: trt.ITimingCache = config.get_timing_cache()
    if held is not None:
        content: trt.IHostMemory = held.serialize()
        path.write_bytes(bytes(memoryview(content)))


def _monitor() -> Any:
    """Tells the steps of the outermost phases; True: go on building."""
    import tensorrt as trt

    steps: dict[str, int] = {}

    def phase_start(self: Any, phase_name: str, parent_phase: str, num_steps: int) -> None:
        if not parent_phase:
            steps[phase_name] = num_steps

    def step_complete(self: Any, phase_name: str, step: int) -> bool:
        if phase_name in steps:
            progress(step + 1, steps[phase_name], phase_name)
        return True

    def phase_finish(self: Any, phase_name: str) -> None:
        steps.pop(phase_name, None)

    return type(
        "Monitor", (trt.IProgressMonitor,),
        {"phase_start": phase_start, "step_complete": step_complete, "phase_finish": phase_finish},
    )()  # fmt: skip


def _information(content: bytes, logger: trt.Logger) -> str:
    import tensorrt as trt

    runtime: trt.Runtime = trt.Runtime(logger)
    engine: trt.ICudaEngine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise OnDeviceFailure("failed", "the builder has built an engine that cannot be opened; its log says why.")
    inspector: trt.EngineInspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
