"""Two forms of one model on the same inputs: do they answer alike?"""

from dataclasses import dataclass

import numpy as np

TIE = 0.02  # of the size of the answers: closer classes are decided by the last roundings of either form
# Three standard deviations of a difference of two answers, each of which is off by the rounding noise.
TIE_IN_NOISE = 3 * 2**0.5
NOISE_MOST = 2.0  # times the rounding noise: a form that is off by more does something else than round


@dataclass(frozen=True)
class Agreement:
    """equal_answers: share of inputs with the same best class · largest: greatest absolute difference of outputs
    scale: root mean square of the reference outputs, to read `largest` against · inputs: how many were compared
    clearly_unequal: inputs whose best class is another one though it was no tie: in the reference the two classes stand
    further apart than a fiftieth of `scale`, and than three deviations of the rounding noise where that was asked for
    typical: root mean square of the difference · rounding: that of the reference in float32 against float64, if asked
    """

    equal_answers: float
    largest: float
    scale: float
    inputs: int
    clearly_unequal: int = 0
    typical: float = 0.0
    rounding: float | None = None


def agreement(reference: np.ndarray, candidate: np.ndarray, *, rounding: float | None = None) -> Agreement:
    """Compare outputs (N, …) of the same N inputs; the best class is the largest entry of the flattened output.

    rounding: what the reference's own roundings move it by, root mean square
    """
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
        clearly_unequal=int((margin > max(TIE * scale, TIE_IN_NOISE * (rounding or 0.0))).sum()),
        typical=float(np.sqrt(np.square(ours - theirs).mean())),
        rounding=rounding,
    )


def agreement_within_rounding(exact: np.ndarray, candidate: np.ndarray, *, single: np.ndarray) -> Agreement:
    """`agreement`, where the reference's own answers depend on the precision in which they are computed.

    A deep network with coarse steps amplifies roundings: a value on the edge between two codes falls to either side,
    and every later layer makes more of it. A MobileNetV2 answered, in float32 and in float64, with half as much
    difference as between it and its float network. A form that differs from float64 no more than float32 does is as
    right as any.

    exact, single: answers of the reference in float64 and in float32
    """
    rounding = float(np.sqrt(np.square(exact - single).mean()))
    same = agreement(exact, candidate, rounding=rounding)
    return same if same.typical <= NOISE_MOST * rounding else agreement(exact, candidate)
