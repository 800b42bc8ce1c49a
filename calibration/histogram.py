"""How often each value occurs in a stream of tensors, in memory that does not grow with the stream.

The bins are equally wide and begin at 0. The last one ends at a power of two above the largest magnitude seen; when a
larger value arrives the width doubles as often as needed and neighbouring bins are added. Widths are powers of two,
so that doubling and dividing are exact: the histogram depends on the values alone, neither on their order nor on how
they were cut into batches.

Most methods look at magnitudes alone and clip at −clip and at clip alike, or at the tensor's own end where that comes
first, also where a zero point (scale.py) gives the two sides different numbers of codes. The values below zero are
counted apart for those methods that choose each end on its own (two_ended.py).

Letters: B bins.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.extremes import Extremes
from calibration.ranges import Range
from calibration.two_ended import Function

BIN_BITS = 13  # 8192 bins: at least 4096 of them below the largest magnitude, and the counts (64 KiB) stay in L2
SMALLEST_EXPONENT = -100  # magnitudes below 2⁻¹⁰⁰ share the first bin; 1 / width stays finite in float32
CHUNK = 2**18  # values counted at once: bounds the scratch memory; smaller chunks measured slower (a pass over B each)
OUTLIER_RATIO = 4.0  # the maximum at 4 × the 99.9th percentile costs two bits; of 10⁷ Gaussian values it is at 1.6 ×


class MagnitudeHistogram:
    """Counts in bins of equal width, with the exact ends of the values beside them.

    sides: counts by magnitude, of values from zero on (with all of the first bin) and of those below it
    """

    def __init__(self) -> None:
        self.extremes = Extremes()
        self.sides = torch.zeros(2, 2**BIN_BITS, dtype=torch.int64)  # (2, B)
        self.exponent = SMALLEST_EXPONENT  # the last bin ends at 2 ** exponent

    def see(self, values: Tensor) -> None:
        """Count the values of one tensor of any shape."""
        values = values.detach().float().reshape(-1)  # first: rounding to float32 may reach the next power of two
        if values.numel() == 0:
            return
        self.extremes.see(values)
        self._reach(self.extremes.amax)
        per_width = 2.0 ** (BIN_BITS - self.exponent)
        for chunk in torch.split(values, CHUNK):
            bins = chunk.mul(per_width).to(torch.int16)  # cut, not rounded: bin k is [k, k + 1) widths
            found = torch.bincount(bins + 2**BIN_BITS, minlength=2 ** (BIN_BITS + 1)).cpu()  # −B … B − 1
            self.sides[0] += found[2**BIN_BITS :]
            self.sides[1, 1:] += found[1 : 2**BIN_BITS].flip(0)

    @property
    def counts(self) -> Tensor:
        """Of magnitudes; (B,)."""
        return self.sides.sum(0)

    @property
    def width(self) -> float:
        """The width of a bin."""
        return 2.0 ** (self.exponent - BIN_BITS)

    def used(self) -> NDArray[np.int64]:
        """Counts up to the last bin that has any; (≤ B,)."""
        counts: NDArray[np.int64] = self.counts.numpy()
        return counts[: int(self.extremes.amax / self.width) + 1]

    def values(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The centres of the bins that have any, from the lowest to the highest, and their counts; (≤ 2B,) both.

        The first bin stands at 0, so that the zeros behind a ReLU are no loss.
        """
        counts = np.concatenate([self.sides[1].numpy()[:0:-1], self.sides[0].numpy()])
        places = np.arange(1 - 2**BIN_BITS, 2**BIN_BITS)
        centres = np.clip((places + 0.5 * np.sign(places)) * self.width, self.extremes.low, self.extremes.high)
        filled = counts > 0
        return centres[filled], counts[filled].astype(np.float64)

    def quantile(self, fraction: Fraction) -> float:
        """The least magnitude that this fraction of the values does not exceed, or up to one bin more."""
        cumulated = np.cumsum(self.used())
        rank = max(1, math.ceil(fraction * int(cumulated[-1])))
        return min((int(np.searchsorted(cumulated, rank)) + 1) * self.width, self.extremes.amax)

    def notes(self) -> tuple[str, ...]:
        """Whether the values are all the same, or few of them are far out."""
        if self.extremes.low >= self.extremes.high:
            return self.extremes.notes()
        usual = self.quantile(Fraction(999, 1000))
        ratio = self.extremes.amax / usual
        return (f"outliers: the largest value is {ratio:.3g}× the 99.9th percentile",) if ratio >= OUTLIER_RATIO else ()

    def _reach(self, amax: float) -> None:
        """Double the width until a bin holds `amax`."""
        doublings = math.frexp(amax)[1] - self.exponent  # amax < 2 ** frexp(amax)[1]
        if doublings <= 0:
            return
        merged = self.sides.view(2, -1, 2 ** min(doublings, BIN_BITS)).sum(dim=2)
        merged[0, 0] += merged[1, 0]  # around zero there is one bin
        merged[1, 0] = 0
        self.sides = torch.zeros_like(self.sides)
        self.sides[:, : merged.shape[1]] = merged
        self.exponent += doublings


class Choice(Protocol):
    """A way to choose the magnitude to clip at; affine: the codes have a zero point, and none are left over."""

    def __call__(self, histogram: MagnitudeHistogram, *, affine: bool = False) -> float: ...


Ends = Callable[[MagnitudeHistogram, Function | None], Range]  # with what alone reads the tensor, if that is known


class HistogramWatch:
    """Watches one tensor with a histogram, and clips its range where `choose` says.

    ends: chooses both ends where the codes have a zero point; without it they are clipped alike
    """

    def __init__(self, choose: Choice, *, ends: Ends | None = None) -> None:
        self.choose, self.ends = choose, ends
        self.histogram = MagnitudeHistogram()

    def see(self, values: Tensor) -> None:
        self.histogram.see(values)

    def range(self, *, affine: bool = False, behind: Function | None = None) -> Range:
        seen = self.histogram.extremes.range()
        if seen.low == seen.high:  # nothing to choose, and a bin knows the value less exactly
            return seen
        if affine and self.ends is not None:
            return self.ends(self.histogram, behind)
        clip = self.choose(self.histogram, affine=affine)
        return Range(max(-clip, min(seen.low, clip)), min(clip, max(seen.high, -clip)))

    def notes(self) -> tuple[str, ...]:
        return self.histogram.notes()
