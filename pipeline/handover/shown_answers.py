"""Answers as `run.py` beside this file shows them: the best classes, or where answers name none, a line per output.

Stands in a bundle: Python 3.8 or later and numpy.

Letters: K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


def top_classes(outputs: dict[str, npt.NDArray[Any]], *, labels: list[str], count: int) -> list[dict[str, Any]]:
    """The classes with the highest probability, best first; the network ends in scores, its first output.

    Raises:
        ValueError: these are no scores; the message is the end of a sentence.
    """
    scores = np.asarray(next(iter(outputs.values())), np.float64)  # (1, K)
    if scores.ndim != 2 or not np.isfinite(scores[0]).all():
        raise ValueError(f"the engine's answer, of shape {list(scores.shape)}, is not one finite score per class.")
    powers = np.exp(scores[0] - scores[0].max())  # (K,)
    probabilities = powers / powers.sum()
    best = np.argsort(-probabilities, kind="stable")[:count].tolist()
    return [
        {
            "class": labels[index] if index < len(labels) else f"class {index}",
            "index": index,
            "probability": float(probabilities[index]),
        }
        for index in best
    ]


def summaries(outputs: dict[str, npt.NDArray[Any]]) -> list[dict[str, Any]]:
    """Name, shape and the least, mean and largest number of each output; null where it holds a NaN or an infinity."""
    told = []
    for name, array in outputs.items():
        sound = array.size > 0 and bool(np.isfinite(array).all())
        least, mean, largest = (array.min(), array.mean(), array.max()) if sound else (None, None, None)
        figures = {"least": least, "mean": mean, "largest": largest}
        numbers = {word: None if number is None else float(number) for word, number in figures.items()}
        told.append({"name": name, "shape": list(array.shape), **numbers})
    return told


def lines_of(answer: dict[str, Any]) -> list[str]:
    """An answer as it is printed."""
    if "top" in answer:
        return [f"  {each['probability']:.4f}  {each['class']}" for each in answer["top"]]
    lines = []
    for each in answer["outputs"]:
        numbers = "holds a NaN or an infinity"
        if each["mean"] is not None:
            numbers = f"{each['least']:.4g} to {each['largest']:.4g}, mean {each['mean']:.4g}"
        lines.append(f"  {each['name']}  {'x'.join(map(str, each['shape']))}  {numbers}")
    return lines


def saved(arrays: dict[str, npt.NDArray[Any]], path: Path) -> None:
    """Write every output of every file that was answered; raises OSError."""
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
