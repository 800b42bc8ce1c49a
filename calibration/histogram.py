"""How often each magnitude occurs in a stream of tensors, in memory that does not grow with the stream.

The bins are equally wide and begin at 0. The last one ends at a power of two above the largest magnitude seen; when a
larger value arrives the width doubles as often as needed and neighbouring bins are added. Widths are powers of two,
so that doubling and dividing are exact: the histogram depends on the values alone, neither on their order nor on how
they were cut into batches.

Only magnitudes are kept because every integer here has its zero point at 0 (see scale.py): a tensor is clipped at
−clip and at clip alike.

Letters: B bins.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.extremes import Extremes
from calibration.ranges import Range

BIN_BITS = 13  # 8192 bins: at least 4096 of them below the largest magnitude, and the counts (64 KiB) stay in L2
SMALLEST_EXPONENT = -100  # magnitudes below 2⁻¹⁰⁰ share the first bin; 1 / width stays finite in float32
CHUNK = 2**18  # values counted at once: bounds the scratch memory; smaller chunks measured slower (a pass over B each)
OUTLIER_RATIO = 4.0  # the maximum at 4 × the 99.9th percentile costs two bits; of 10⁷ Gaussian values it is at 1.6 ×


class MagnitudeHistogram:
    """Counts of magnitudes in bins of equal width, with the exact ends of the values beside them."""

    def __init__(self) -> None:
        self.extremes = Extremes()
        self.counts = torch.zeros(2**BIN_BITS, dtype=torch.int64)  # (B,)
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
            bins = chunk.mul(per_width).abs_().to(torch.int16)  # cut, not rounded: bin k is [k, k + 1) widths
            self.counts += torch.bincount(bins, minlength=len(self.counts)).cpu()

    @property
    def width(self) -> float:
        """The width of a bin."""
        return 2.0 ** (self.exponent - BIN_BITS)

    def used(self) -> NDArray[np.int64]:
        """Counts up to the last bin that has any; (≤ B,)."""
        counts: NDArray[np.int64] = self.counts.numpy()
        return counts[: int(self.extremes.amax / self.width) + 1]

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
        merged = self.counts.view(-1, 2 ** min(doublings, BIN_BITS)).sum(dim=1)
        self.counts = torch.zeros_like(self.counts)
        self.counts[: len(merged)] = merged
        self.exponent += doublings


class HistogramWatch:
    """Watches one tensor with a histogram, and clips its range where `choose` says.

    choose: from the histogram to the magnitude to clip at
    """

    def __init__(self, choose: Callable[[MagnitudeHistogram], float]) -> None:
        self.choose = choose
        self.histogram = MagnitudeHistogram()

    def see(self, values: Tensor) -> None:
        self.histogram.see(values)

    def range(self) -> Range:
        seen = self.histogram.extremes.range()
        if seen.low == seen.high:  # nothing to choose, and a bin knows the value less exactly
            return seen
        clip = self.choose(self.histogram)
        return Range(max(-clip, min(seen.low, clip)), min(clip, max(seen.high, -clip)))

    def notes(self) -> tuple[str, ...]:
        return self.histogram.notes()
