"""Two forms of one model on the same inputs: do they answer alike?"""

from dataclasses import dataclass

import numpy as np

TIE = 0.02  # of the size of the answers: closer classes are decided by the last roundings of either form


@dataclass(frozen=True)
class Agreement:
    """equal_answers: share of inputs with the same best class · largest: greatest absolute difference of outputs
    scale: root mean square of the reference outputs, to read `largest` against · inputs: how many were compared
    clearly_unequal: inputs whose best class is another one though it was no tie: in the reference the two classes stand
    further apart than a fiftieth of `scale`
    """

    equal_answers: float
    largest: float
    scale: float
    inputs: int
    clearly_unequal: int = 0


def agreement(reference: np.ndarray, candidate: np.ndarray) -> Agreement:
    """Compare outputs (N, …) of the same N inputs; the best class is the largest entry of the flattened output."""
    if reference.shape != candidate.shape:
        raise ValueError(f"outputs of shape {reference.shape} and {candidate.shape} cannot be compared")
    ours, theirs = reference.reshape(len(reference), -1), candidate.reshape(len(candidate), -1)  # (N, K)
    scale = float(np.sqrt(np.square(ours).mean()))
    best, rival, every = ours.argmax(1), theirs.argmax(1), np.arange(len(ours))
    margin = ours[every, best] - ours[every, rival]  # (N,), 0 where the best class is the same
    return Agreement(
        equal_answers=float((best == rival).mean()),
        largest=float(np.abs(ours - theirs).max()),
        scale=scale,
        inputs=len(ours),
        clearly_unequal=int((margin > TIE * scale).sum()),
    )
