"""Clip where the mean squared error of quantization is smallest.

Sung, Shin & Hwang 2015, "Resiliency of Deep Neural Networks under Quantization", arXiv:1511.06488 (the step of least
squared error); symmetric and uniform, as in Wu et al. 2020, arXiv:2004.09602.

    error(c) = Σ_x ( x − s · min(round(x / s), L) )² ,   s = c / L,   over the magnitudes x

A wide clip loses by coarse steps, a narrow one by cutting. The sum runs over the histogram, each bin at its centre
and the first at 0, so that the zeros after a ReLU cost nothing. Clips are tried in equal ratios from the largest
magnitude down to a 1024th of it, then evenly between the neighbours of the best. With a zero point both ends are chosen
(two_ended.py), in view of the function that alone reads the tensor, if there is one.

Letters: n bins of magnitudes; L largest code (127 for 8 bits signed, 255 unsigned); s step; c clip.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.histogram import HistogramWatch, MagnitudeHistogram
from calibration.ranges import Range
from calibration.scale import largest_code
from calibration.two_ended import Function, ends_of_least_error

CLIPS_PER_OCTAVE = 8  # neighbours differ by 9 %, the second round by 0.5 %: the error is flat around its minimum
OCTAVES = 10
CLIPS_BETWEEN = 33  # of the second round


@dataclass(frozen=True)
class MeanSquaredError:
    """The clip of least squared error.

    bits: of the integer that will hold the values
    unsigned: values that are never negative use the codes 0..255 (8 bits); otherwise 0..127 of the signed ones
    """

    bits: int = 8
    unsigned: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"the error of 2 to 8 bits is known here, not of {self.bits}")

    def watch(self) -> HistogramWatch:
        return HistogramWatch(self.clip, ends=self.ends)

    def ends(self, histogram: MagnitudeHistogram, behind: Function | None = None) -> Range:
        """Both ends, for codes with a zero point."""
        values, counts = histogram.values()
        return ends_of_least_error(values, counts, steps=2**self.bits - 1, behind=behind)

    def clip(self, histogram: MagnitudeHistogram, *, affine: bool = False) -> float:
        amax = histogram.extremes.amax
        code = largest_code(bits=self.bits, signed=not (self.unsigned and histogram.extremes.low >= 0.0))
        used = histogram.used()
        filled = np.flatnonzero(used)
        counts = used[filled].astype(np.float64)  # (n,)
        values = np.minimum((filled + 0.5) * histogram.width, amax)  # (n,)
        values[filled == 0] = 0.0

        # Widest first: argmin takes the first of equals.
        coarse = amax * 2.0 ** (-np.arange(OCTAVES * CLIPS_PER_OCTAVE + 1) / CLIPS_PER_OCTAVE)
        best = int(np.argmin(squared_errors(values, counts, clips=coarse, code=code)))
        widest, narrowest = coarse[max(best - 1, 0)], coarse[min(best + 1, len(coarse) - 1)]
        fine = np.linspace(widest, narrowest, CLIPS_BETWEEN)
        return float(fine[int(np.argmin(squared_errors(values, counts, clips=fine, code=code)))])


def squared_errors(
    values: NDArray[np.float64], counts: NDArray[np.float64], *, clips: NDArray[np.float64], code: int
) -> NDArray[np.float64]:
    """The summed squared error of magnitudes (n,) that occur `counts` (n,) times, for each clip."""
    errors = np.empty(len(clips))
    for number, clip in enumerate(clips):  # one clip at a time: its arrays stay in the cache
        step = clip / code
        quantized = np.minimum(np.rint(values / step), code) * step  # (n,)
        errors[number] = (counts * (values - quantized) ** 2).sum()
    return errors
