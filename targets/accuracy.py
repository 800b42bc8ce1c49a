"""How right a runner's answers are, input by input.

A metric is any callable (outputs (N, …), labels (N, …)) → scores (N,) in 0..1. Scores are kept per input: two models
are compared on the inputs on which they disagree, which a mean has already forgotten.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.errors import EngineFailed
from targets.measurement import Accuracy
from targets.runner import Runner

Metric = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


def top1(outputs: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """1 where the highest of the K outputs is the label's; the first of equals counts as highest."""
    right: NDArray[np.bool_] = outputs.argmax(axis=1) == labels  # (N, K), (N,) → (N,)
    return right.astype(np.float64)


def top5(outputs: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """1 where the label's is among the five highest of the K outputs; of equals the first count as higher."""
    highest = np.argsort(-outputs, axis=1, kind="stable")[:, :5]  # (N, 5)
    right: NDArray[np.bool_] = (highest == labels[:, None]).any(axis=1)  # (N,)
    return right.astype(np.float64)


def scores_of(
    runner: Runner, inputs: NDArray[np.float32], labels: NDArray[Any], *, metric: Metric = top1, batch: int = 64
) -> Accuracy:
    """The score of each input, answered `batch` at a time.

    Raises:
        EngineFailed: an answer holds NaN, or there are not as many answers as inputs.
    """
    if len(inputs) != len(labels) or len(inputs) == 0:
        raise ValueError(f"scores need as many labels as inputs and at least one: {len(inputs)} and {len(labels)}")
    if batch < 1:
        raise ValueError(f"batch is {batch}; at least one input is answered at a time")
    scores: list[float] = []
    for start in range(0, len(inputs), batch):
        asked, truth = inputs[start : start + batch], labels[start : start + batch]
        outputs = runner(asked)
        if len(outputs) != len(asked):
            raise EngineFailed(
                f"The engine gave {len(outputs)} answers to {len(asked)} inputs (from input {start} on)."
            )
        refuse_nan(outputs, first=start)
        given = np.asarray(metric(outputs, truth), dtype=np.float64)
        if given.shape != (len(asked),) or not ((given >= 0) & (given <= 1)).all():
            name = getattr(metric, "__name__", type(metric).__name__)
            raise ValueError(f"the metric {name} must give one score in 0..1 per input; from input {start} it did not")
        scores.extend(given.tolist())
    return Accuracy(tuple(scores))


def refuse_nan(outputs: NDArray[Any], *, first: int = 0) -> None:
    """Pass answers without NaN.

    first: the number of the first input in its data set, for the message

    Raises:
        EngineFailed: naming the first input whose answer is not a number.
    """
    rotten = np.isnan(outputs).reshape(len(outputs), -1).any(axis=1)  # (N,)
    if rotten.any():
        index = first + int(rotten.argmax())
        raise EngineFailed(
            f"The answer to input {index} holds NaN. Look at this input first; if it is sound, "
            "a scale in the model is zero or not finite."
        )
