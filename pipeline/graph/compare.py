"""Two forms of one model on the same inputs: do they answer alike?"""

from dataclasses import dataclass

import numpy as np

TIE = 0.02  # of the size of the answers: closer classes are decided by the last roundings of either form
# Three standard deviations of a difference of two answers, each of which is off by the rounding noise.
TIE_IN_NOISE = 3 * 2**0.5
APART = 0.1  # of the deviation: values further off are another answer
SAME = 1e-6  # of the largest value: answers that differ by less do not tell inputs apart
NOISE_MOST = 2.0  # times the rounding noise: a form that is off by more does something else than round
Sizes = tuple[int, ...] | None


@dataclass(frozen=True)
class Agreement:
    """equal_answers: share of inputs with the same best class · largest: greatest absolute difference of outputs
    scale: root mean square of the reference outputs, to read `largest` against · inputs: how many were compared
    clearly_unequal: inputs whose best class is another one though it was no tie: in the reference the two classes stand
    further apart than a fiftieth of `scale`, and than three deviations of the rounding noise where that was asked for
    Where answers name no class, the inputs on which an output is off by more than a tenth of what tells the reference's
    answers apart count as clearly unequal, and all others as equal.
    typical: root mean square of the difference · rounding: that of the reference in float32 against float64, if asked
    in_integers: how many further answers would be clearly unequal, had not the integers been computed a second time and
    found to be the candidate's (stages/same_integers.py)
    """

    equal_answers: float
    largest: float
    scale: float
    inputs: int
    clearly_unequal: int = 0
    typical: float = 0.0
    rounding: float | None = None
    in_integers: int = 0


def agreement(
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    rounding: float | None = None,
    sizes: Sizes = None,
    single: np.ndarray | None = None,
) -> Agreement:
    """Compare outputs (N, …) of the same N inputs; the best class is the largest entry of the flattened output.

    rounding: what the reference's own roundings move it by, root mean square
    sizes: of the outputs that stand beside each other in the answers, where these name no class; there the roundings
    are read, for each output, from `single`: the reference's answers in float32
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"outputs of shape {reference.shape} and {candidate.shape} cannot be compared")
    ours, theirs = reference.reshape(len(reference), -1), candidate.reshape(len(candidate), -1)  # (N, K)
    scale = float(np.sqrt(np.square(ours).mean()))
    clear = unlike(reference, candidate, rounding=rounding, sizes=sizes, single=single)
    equal = ~clear if sizes else ours.argmax(1) == theirs.argmax(1)
    return Agreement(
        equal_answers=float(equal.mean()),
        largest=float(np.abs(ours - theirs).max()),
        scale=scale,
        inputs=len(ours),
        clearly_unequal=int(clear.sum()),
        typical=float(np.sqrt(np.square(ours - theirs).mean())),
        rounding=rounding,
    )


def unlike(
    reference: np.ndarray,
    candidate: np.ndarray,
    *,
    rounding: float | None = None,
    sizes: Sizes = None,
    single: np.ndarray | None = None,
) -> np.ndarray:
    """(N,): whether the best class is another one though it was no tie in the reference; the settings as above."""
    ours, theirs = reference.reshape(len(reference), -1), candidate.reshape(len(candidate), -1)  # (N, K)
    if sizes:
        return _values_unlike(ours, theirs, ours if single is None else single.reshape(ours.shape), sizes=sizes)
    every, scale = np.arange(len(ours)), float(np.sqrt(np.square(ours).mean()))
    margin = ours[every, ours.argmax(1)] - ours[every, theirs.argmax(1)]  # (N,), 0 where the best class is the same
    clear: np.ndarray = margin > max(TIE * scale, TIE_IN_NOISE * (rounding or 0.0))
    return clear


def _values_unlike(ours: np.ndarray, theirs: np.ndarray, single: np.ndarray, *, sizes: tuple[int, ...]) -> np.ndarray:
    """(N,): whether an output differs by more than APART of its deviation over the inputs, and than the reference's
    own roundings move it; root mean squares.
    """
    clear, start = np.zeros(len(ours), bool), 0
    for size in sizes:
        one, other, rounded = (each[:, start : start + size] for each in (ours, theirs, single))
        start += size
        deviation = float(np.sqrt(np.square(one - one.mean(0)).mean()))
        if deviation <= SAME * float(np.abs(one).max(initial=0.0)):  # of one input, or a constant output
            deviation = float(np.sqrt(np.square(one).mean()))
        rounding = float(np.sqrt(np.square(one - rounded).mean()))
        clear |= np.sqrt(np.square(one - other).mean(1)) > max(APART * deviation, NOISE_MOST * rounding)
    return clear


def agreement_within_rounding(
    exact: np.ndarray, candidate: np.ndarray, *, single: np.ndarray, sizes: Sizes = None
) -> Agreement:
    """`agreement`, where the reference's own answers depend on the precision in which they are computed.

    A deep network with coarse steps amplifies roundings: a value on the edge between two codes falls to either side,
    and every later layer makes more of it. A MobileNetV2 answered, in float32 and in float64, with half as much
    difference as between it and its float network. A form that differs from float64 no more than float32 does is as
    right as any.

    exact, single: answers of the reference in float64 and in float32
    """
    rounding = float(np.sqrt(np.square(exact - single).mean()))
    same = agreement(exact, candidate, rounding=rounding, sizes=sizes, single=single)
    return same if same.typical <= NOISE_MOST * rounding else agreement(exact, candidate, sizes=sizes)
