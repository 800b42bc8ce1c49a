"""How true answers are to those of the float network, where they name no class: boxes, maps, several outputs.

    s = max(0, 1 − 1/O · Σₒ ‖ŷₒ − yₒ‖² / Dₒ),   Dₒ the mean over the inputs of ‖yₒ − ȳₒ‖²

the share of what tells the answers to the inputs apart that is still right: 1 for the float network itself, 0 for one
that answers all inputs with their mean, as for R². Each output weighs as much as the others, so that thousands of boxes
do not drown the scores beside them. Dₒ is that of all inputs, not of each: a picture on which there is little to find
is answered almost like the mean, and would be divided by almost nothing.

Letters: N inputs, O outputs, K numbers of all outputs, y answer of the float network, ȳ its mean over the inputs, ŷ the
answer that is judged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipeline.data.onnx_door import taken_by
from pipeline.errors import DataRefused, NetworkRefused
from targets.engines.session import door_of, first_line, open_session, runtime_errors

# Sums of float32 in another order: what is nearer is no better. It also keeps the score of a network that answers alike
# below 1, a number among others and no "right" (targets/intervals.py).
ROUNDINGS = 1e-9
CONSTANT = 1e-12  # of an output's mean square: it does not tell inputs apart


@dataclass(frozen=True)
class Fidelity:
    """The metric: (answers (N, …), labels (N, K + O)) → scores (N,); a label is y, and Dₒ of each output behind it.

    sizes: how many numbers each output has for one input
    """

    sizes: tuple[int, ...]
    title: ClassVar[str] = "fidelity"

    def __call__(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        numbers = sum(self.sizes)
        wanted, deviations = labels[:, :numbers], labels[:, numbers:]  # (N, K), (N, O)
        squares = np.square(outputs.reshape(len(outputs), -1) - wanted, dtype=np.float64)
        errors = [squares[:, part].sum(1) / deviations[:, place] for place, part in enumerate(parts_of(self.sizes))]
        scores: np.ndarray = 1 - np.clip(np.mean(errors, axis=0), ROUNDINGS, 1)
        return scores

    def labels_from(self, answers: np.ndarray) -> np.ndarray:
        """The labels of all inputs, from the float network's answers (N, …).

        Raises:
            DataRefused: every input is answered alike.
        """
        flat = answers.reshape(len(answers), -1).astype(np.float32)  # (N, K)
        deviations = []
        for part in parts_of(self.sizes):
            whole = float(np.square(flat[:, part], dtype=np.float64).sum(1).mean())
            apart = float(np.square(flat[:, part] - flat[:, part].mean(0, dtype=np.float64)).sum(1).mean())
            deviations.append(apart if apart > CONSTANT * whole else 0.0)
        if not any(deviations):
            raise DataRefused("the network answers all inputs alike. Check --mean and --std, and that it is trained.")
        # An output that no input changes has no scale of its own: it gets the least of the others'.
        filled = [each or min(filter(None, deviations)) for each in deviations]
        return np.concatenate([flat, np.tile(np.array(filled, np.float32), (len(flat), 1))], axis=1)


def sizes_of(metric: object) -> tuple[int, ...] | None:
    """The sizes of the outputs where answers name no class, else None: how two answers are compared hangs on it."""
    return metric.sizes if isinstance(metric, Fidelity) else None


def parts_of(sizes: tuple[int, ...]) -> Iterator[slice]:
    """Where each output stands among the K numbers."""
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size


def fidelity_of(model: Path) -> Fidelity | None:
    """How to score an ONNX file's answers; None where its one output is a score for each of two classes or more.

    Raises:
        DataMissing, NetworkRefused: the file cannot be read, or has not one input of known shape.
        EngineRefused: ONNX Runtime does not take it.
    """
    shape = taken_by(model).shape
    session = open_session(model, threads=1, optimize=False)
    door = door_of(session, path=model)
    asked = np.zeros((door.fixed_batch or 1, *shape), door.dtype)
    try:
        answers = [np.asarray(each) for each in session.run(None, {door.name: asked})]
    except runtime_errors() as error:
        raise NetworkRefused(f"{model} does not answer in ONNX Runtime: {first_line(error)}") from error
    if any(each.shape[:1] != asked.shape[:1] for each in answers):
        shapes = ", ".join(str(each.shape) for each in answers)
        raise NetworkRefused(
            f"{model} answers {len(asked)} inputs with {shapes}: an output does not begin with the axis of the batch. "
            "Export it so."
        )
    if len(answers) == 1 and answers[0].ndim == 2 and answers[0].shape[1] > 1:
        return None
    return Fidelity(tuple(each[0].size for each in answers))
