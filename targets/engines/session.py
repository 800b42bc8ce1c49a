"""ONNX Runtime sessions: how they are opened here, and the runner that answers through one.

Imports numpy and ONNX Runtime only, and the latter when it is needed: the memory probe measures a process that holds
nothing else.

Other settings were tried on ResNet-20 for CIFAR-10 in INT8 (1 ms, one thread, AVX2, ONNX Runtime 1.31), as speed over
the settings below; medians of 4 to 11 sets of fresh sessions taken in turns, where a second session with the same
settings came to 0.998 (0.96 to 1.03):

    no reuse of memory 1.015 · nor of its pattern 0.997 · parallel execution 1.014 · no arena 0.98 · no spinning 0.98 ·
    weights outside the arena 0.98 · denormals as zero 0.99 · no packing of weights 0.60

None is worth 2 %, so none is tried by the build stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.errors import EngineFailed, EngineMissing, EngineRefused

ERRORS_ONLY = 3  # ONNX Runtime's log severity: its warnings about layouts are not for our user
PROVIDERS = ("CPUExecutionProvider",)


def onnx_runtime() -> Any:
    """The module.

    Raises:
        EngineMissing: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineMissing(
            f"ONNX Runtime cannot be imported ({error}). Install it with: pip install onnxruntime"
        ) from error
    return onnxruntime


def runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: a dozen classes with no ancestor but Exception, and two of Python's own."""
    onnx_runtime()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception)]
    return (*own, RuntimeError, ValueError)


def open_session(
    path: Path, *, threads: int, optimize: bool, keep: Path | None = None, profile: Path | None = None
) -> Any:
    """A session on this file; its threads spin between operators, and rest when the answer is there.

    Left to spin on after an answer, as is the runtime's default, they take their cores from whatever the application
    does next: with two threads an engine was 1.32 times as slow beside another session as alone, and 1.09 times when
    both rest. Alone it pays 5 % for waking its thread.

    optimize: rewrite the graph first; an engine file has that behind it
    keep: where to write the rewritten graph
    profile: beginning of the name of the file with the times of each operator

    Raises:
        EngineRefused: ONNX Runtime does not take the file.
    """
    runtime = onnx_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    levels = runtime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    if keep is not None:
        options.optimized_model_filepath = str(keep)
        options.add_session_config_entry("session.save_model_format", "ONNX")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        return runtime.InferenceSession(str(path), options, providers=list(PROVIDERS))
    except runtime_errors() as error:
        raise EngineRefused(f"ONNX Runtime does not take {path}: {first_line(error)}") from error


@dataclass(frozen=True)
class Door:
    """The one input of a model."""

    name: str
    dtype: type[np.generic]
    fixed_batch: int | None


def door_of(session: Any, *, path: Path) -> Door:
    """The input through which a model is asked.

    Raises:
        EngineRefused: it has several inputs, or one of a type that is not asked with numbers.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise EngineRefused(f"{path} has {len(inputs)} inputs ({names}); models with exactly one can be run here.")
    kind = inputs[0].type
    dtypes: dict[str, type[np.generic]] = {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(uint8)": np.uint8,
        "tensor(int64)": np.int64,
        "tensor(int32)": np.int32,
    }
    if kind not in dtypes:
        raise EngineRefused(f"The input of {path} is a {kind}; known are {', '.join(dtypes)}.")
    shape = inputs[0].shape
    batch = shape[0] if shape and isinstance(shape[0], int) else None
    return Door(inputs[0].name, dtypes[kind], batch)


@dataclass
class SessionRunner:
    """Answers through a session; several outputs of a model become one array."""

    session: Any
    door: Door
    errors: tuple[type[Exception], ...]

    def __call__(self, inputs: NDArray[np.float32], /) -> NDArray[Any]:
        """Any number of inputs; a model of fixed batch is asked in parts, the last one filled up."""
        if self.session is None:
            raise EngineFailed("This engine was closed. Open it again to ask it.")
        asked = np.ascontiguousarray(inputs, dtype=self.door.dtype)  # (N, …)
        fixed = self.door.fixed_batch
        if fixed is None or len(asked) == fixed:
            return self._answer(asked)
        if len(asked) == 0:
            raise EngineFailed(f"No input was given; this engine answers {fixed} at a time.")
        parts = []
        for start in range(0, len(asked), fixed):
            part = asked[start : start + fixed]
            filling = np.repeat(part[-1:], fixed - len(part), axis=0)
            answers = self._answer(np.concatenate([part, filling]) if len(filling) else part)
            if len(answers) != fixed:
                raise EngineFailed(f"The engine gives {len(answers)} answers to {fixed} inputs: it has no batch axis.")
            parts.append(answers[: len(part)])
        return np.concatenate(parts)

    def _answer(self, asked: NDArray[Any]) -> NDArray[Any]:
        try:
            outputs: list[NDArray[Any]] = self.session.run(None, {self.door.name: asked})
        except self.errors as error:
            raise EngineFailed(f"The engine fails on inputs of shape {asked.shape}: {first_line(error)}") from error
        return joined(outputs)

    def close(self) -> None:
        """Let the session go, with its memory and threads."""
        self.session = None


def every_output(runner: SessionRunner, inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Each output of a model by itself, asked one input at a time (N, …); the runner is closed."""
    given = inputs.astype(runner.door.dtype, copy=False)
    try:
        rows = [runner.session.run(None, {runner.door.name: given[place : place + 1]}) for place in range(len(given))]
    except runner.errors as error:
        raise EngineFailed(f"The engine fails on inputs of shape {given.shape}: {first_line(error)}") from error
    finally:
        runner.close()
    return tuple(np.concatenate(each) for each in zip(*rows, strict=True))


def joined(outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The answer in one array: a single output as it is; of several, each flattened, one beside the other, (N, K).

    Raises:
        EngineFailed: they do not begin with one and the same axis of the batch.
    """
    if len(outputs) == 1:
        return outputs[0]
    lengths = {each.shape[:1] for each in outputs}
    if len(lengths) != 1 or lengths == {()}:
        shapes = ", ".join(str(each.shape) for each in outputs)
        raise EngineFailed(f"The outputs of the engine, of shapes {shapes}, do not begin with one axis of the batch.")
    return np.concatenate([each.reshape(len(each), -1) for each in outputs], axis=1)


def runner_of(session: Any, *, path: Path) -> SessionRunner:
    """The runner that answers through this session."""
    return SessionRunner(session, door_of(session, path=path), runtime_errors())


def first_line(error: Exception) -> str:
    """The runtime's message without its trace."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
