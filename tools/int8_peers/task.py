"""What every quantizer is given, and what it gives back; the same for ours as for its peers.

A quantizer is a file of this folder with

    PACKAGES                            the distributions whose versions its result depends on
    quantized(task) → Found             the files it makes, each for one runtime

It may try several settings. Which is best is chosen on inputs that are no part of the test, by accuracy and, where that
is equal, by the error of the answers

    E = ‖ŷ − y‖² / ‖y − ȳ‖²

Letters: N inputs, y answers of the float network (N, K), ȳ their mean over the inputs, ŷ answers of the quantized one.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from int8_peers.opening import opened
from pipeline.data.fidelity import fidelity_of
from targets.accuracy import top1
from targets.stopwatch import now_s

Floats = NDArray[np.float32]
Way = Callable[[Path], None]  # writes a quantized model to the path


@dataclass(frozen=True, eq=False)
class Task:
    """One float network, and the inputs it may be calibrated and chosen with.

    model: batch 1, one input · calibration: inputs (N, …) · choosing: more of them, with their labels and the float
    network's answers · folder: the only place to write · threads: the result answers with
    """

    model: Path
    calibration: Floats
    choosing: Floats
    labels: NDArray[Any]
    answers: Floats
    folder: Path
    threads: int


@dataclass(frozen=True)
class Quantized:
    """One file that answers.

    file: its name in the task's folder · runtime: "onnxruntime", "openvino", or "engine" for an engine file of ours
    scheme: the settings, for a reader
    """

    file: str
    runtime: str
    scheme: str


@dataclass(frozen=True)
class Tried:
    """One setting: accuracy and error on the choosing inputs, or why it failed."""

    scheme: str
    accuracy: float | None
    error: float | None
    seconds: float
    failed: str = ""


@dataclass(frozen=True)
class Found:
    """All files of a quantizer that are worth timing, and every setting tried."""

    forms: tuple[Quantized, ...]
    tried: tuple[Tried, ...]


def task_in(network: Path, *, tool: str, threads: int) -> Task:
    """The task of `tool`, from what stands in the folder of a network."""
    given = network / "given"
    arrays = {name: np.load(given / f"{name}.npy") for name in ("calibration", "choosing", "labels", "answers")}
    folder = network / tool
    folder.mkdir(parents=True, exist_ok=True)
    return Task(given / "float.onnx", folder=folder, threads=threads, **arrays)


def chosen(task: Task, ways: Mapping[str, Way], *, stem: str, suffix: str, runtime: str) -> Found:
    """The best of several settings, run in `runtime`.

    ways: the scheme in words → what writes the model · stem, suffix: of the file that is kept

    Raises:
        RuntimeError: not one of them worked; the message is that of the first.
    """
    best: tuple[float, float] | None = None
    name = ""
    kept = task.folder / f"{stem}{suffix}"
    tried: list[Tried] = []
    for place, (scheme, way) in enumerate(ways.items()):
        path = task.folder / f"{stem}-{place}{suffix}"
        began = now_s()
        try:
            way(path)
            accuracy, error = judged(task, path, runtime=runtime)
        except Exception as failure:  # noqa: BLE001 - a peer raises what it likes; the row says what
            tried.append(Tried(scheme, None, None, now_s() - began, one_line(failure)))
            continue
        tried.append(Tried(scheme, accuracy, error, now_s() - began))
        if best is None or (accuracy, -error) > best:
            best, name = (accuracy, -error), scheme
            for each in (path, path.with_suffix(".bin")):  # OpenVINO keeps the weights beside
                if each.is_file():
                    each.replace(kept.with_suffix(each.suffix))
    if best is None:
        raise RuntimeError(tried[0].failed)
    return Found((Quantized(kept.name, runtime, name),), tuple(tried))


def judged(task: Task, path: Path, *, runtime: str) -> tuple[float, float]:
    """Accuracy and error of a model on the choosing inputs."""
    with closing(opened(path, runtime=runtime, threads=task.threads)) as runner:
        answers = np.concatenate([runner(task.choosing[place : place + 1]) for place in range(len(task.choosing))])
    metric = fidelity_of(task.model) or top1
    return float(metric(answers, task.labels).mean()), error_of(answers, task.answers)


def error_of(answers: Floats, wanted: Floats) -> float:
    """E, as above."""
    spread = float(np.square(wanted - wanted.mean(0)).sum(dtype=np.float64))
    return float(np.square(answers - wanted).sum(dtype=np.float64)) / max(spread, 1e-12)


def one_line(error: BaseException) -> str:
    """An exception as the end of a sentence."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
