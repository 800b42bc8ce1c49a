"""A quantized file, ready to answer in one of the runtimes, and how much of it multiplies integers.

Everybody's files answer through the runners of this project: those of a peer do not pay for a slower way of asking.
"""

import tempfile
from pathlib import Path

from targets.engines.onnx_operators import operators_of
from targets.engines.openvino_model import compiled_from_onnx, runner_of_model
from targets.engines.openvino_operators import operators_in_compiled
from targets.engines.ort import open_onnx
from targets.engines.session import open_session
from targets.find import target_named
from targets.runner import Engine, Runner

TARGET = "x86-cpu"
NOT_HANDED_OVER = "not handed over"  # in the scheme of an engine of ours that lost to another


def opened(path: Path, *, runtime: str, threads: int) -> Runner:
    """The file in `runtime`: "onnxruntime", "openvino", or "engine" for an engine file of ours."""
    match runtime:
        case "onnxruntime":
            return open_onnx(path, threads=threads)
        case "openvino":
            return runner_of_model(compiled_from_onnx(path, threads=threads), path=path)
        case "engine":
            return engine_of(path).open(path, threads=threads)
    raise ValueError(f"there is no runtime {runtime!r} here; there are onnxruntime, openvino and engine")


def integer_operators(path: Path, *, runtime: str, threads: int) -> tuple[int, int]:
    """(those that multiply integers, all) of the convolutions and matrix products, once the runtime has rewritten."""
    match runtime:
        case "openvino":
            found = operators_in_compiled(compiled_from_onnx(path, threads=threads))
        case "engine":
            found = engine_of(path).operators(path)
        case _:
            with tempfile.TemporaryDirectory() as folder:
                rewritten = Path(folder) / "rewritten.onnx"
                open_session(path, threads=threads, optimize=True, keep=rewritten)
                found = operators_of(rewritten)
    return found.integer, found.integer + found.floating


def engine_of(path: Path) -> Engine:
    """The engine of our target that this file was built by, known by its suffix."""
    found = engine_or_none(path)
    if found is None:
        raise ValueError(f"{path.name} is the engine file of no runtime of {TARGET}")
    return found


def engine_or_none(path: Path) -> Engine | None:
    """The same, and None for a file that is no engine."""
    target = target_named(TARGET)
    return next((each for each in (target.engine, *target.further_engines) if path.name.endswith(each.suffix)), None)
