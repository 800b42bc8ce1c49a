"""Two forms of one model on the same inputs: do they answer alike?"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """equal_answers: share of inputs with the same best class · largest: greatest absolute difference of outputs
    scale: root mean square of the reference outputs, to read `largest` against · inputs: how many were compared
    """

    equal_answers: float
    largest: float
    scale: float
    inputs: int


def agreement(reference: np.ndarray, candidate: np.ndarray) -> Agreement:
    """Compare outputs (N, …) of the same N inputs; the best class is the largest entry of the flattened output."""
    if reference.shape != candidate.shape:
        raise ValueError(f"outputs of shape {reference.shape} and {candidate.shape} cannot be compared")
    ours, theirs = reference.reshape(len(reference), -1), candidate.reshape(len(candidate), -1)  # (N, K)
    return Agreement(
        equal_answers=float((ours.argmax(1) == theirs.argmax(1)).mean()),
        largest=float(np.abs(ours - theirs).max()),
        scale=float(np.sqrt(np.square(ours).mean())),
        inputs=len(ours),
    )
