"""Clip the largest magnitudes: a given percentage of the values stays inside.

Wu et al. 2020, "Integer Quantization for Deep Learning Inference: Principles and Empirical Evaluation",
arXiv:2004.09602 (the calibration method "percentile"; the paper tries 99.9 % to 99.9999 %).

    clip = the least c with  #{ |x| ≤ c } ≥ percent / 100 · #{ x },   known to one bin of the histogram

The percentage is of magnitudes, as the zero point is 0: of a signed tensor both ends together lose 1 − percent / 100.
"""

from dataclasses import dataclass
from fractions import Fraction

from calibration.histogram import HistogramWatch, MagnitudeHistogram


@dataclass(frozen=True)
class Percentile:
    """The range that holds a percentage of the values.

    percent: above 0, up to 100 (then it is the full range)
    """

    percent: float = 99.99

    def __post_init__(self) -> None:
        if not 0.0 < self.percent <= 100.0:
            raise ValueError(f"a percentage lies above 0 and up to 100, not at {self.percent}")

    def watch(self) -> HistogramWatch:
        return HistogramWatch(self.clip)

    def clip(self, histogram: MagnitudeHistogram, *, affine: bool = False) -> float:
        """The magnitude; the same for all codes."""
        # Fraction(repr) reads 99.99 as 9999/100: in floats 10 000 · 0.9999 may come out a hair above 9999.
        return histogram.quantile(Fraction(repr(float(self.percent))) / 100)
