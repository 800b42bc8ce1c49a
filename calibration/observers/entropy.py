"""Clip where the clipped and quantized distribution is closest to the original one.

Migacz 2017, "8-bit Inference with TensorRT", GTC San Jose (the algorithm of TensorRT's entropy calibrator).

    for i = L … n:   P = bins 0..i−1, all that lies beyond added to bin i−1
                     Q = bins 0..i−1 summed into L levels, each sum spread evenly over the non-empty bins it came from
                     D(i) = Σ_j P_j log(P_j / Q_j),   P and Q normalised
    clip = upper edge of bin i−1 for the i with the smallest D

Where the slides are silent or meet a logarithm of zero:

- the clip is the edge where Q ends (the slides take the middle of bin i);
- the first bin gets the count of the second, as in public implementations: the exact zeros after a ReLU are no loss at
  any scale;
- an empty last bin counts as holding one value in Q, so that one far outlier does not rule out every narrower clip;
- a clip that cuts half of the values or more is not considered: with nearly everything in one bin P equals Q;
- of equally good clips the widest is taken;
- with a zero point L is the share of all codes that the longer side of the full range has: 128 to 256.

Q is constant on the bins of one level, so each D(i) is a sum over L levels of differences of cumulated counts: n · L
steps in place of n².

Letters: n bins of magnitudes, at most 2048; L levels: 128 for 8 bits signed, 256 unsigned; D divergence; I clips tried.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.histogram import HistogramWatch, MagnitudeHistogram
from calibration.scale import largest_code

BINS = 2048  # Migacz 2017


@dataclass(frozen=True)
class Entropy:
    """The clip of least Kullback-Leibler divergence.

    bits: of the integer that will hold the values
    unsigned: values that are never negative use the codes 0..255 (8 bits); otherwise 0..127 of the signed ones
    """

    bits: int = 8
    unsigned: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"the entropy of 2 to 8 bits is known here, not of {self.bits}")

    def watch(self) -> HistogramWatch:
        return HistogramWatch(self.clip)

    def clip(self, histogram: MagnitudeHistogram, *, affine: bool = False) -> float:
        used = histogram.used()
        together = -(-len(used) // BINS)  # neighbouring bins that become one
        counts = np.pad(used, (0, -len(used) % together)).reshape(-1, together).sum(axis=1)  # (n,)
        levels = largest_code(bits=self.bits, signed=not (self.unsigned and histogram.extremes.low >= 0.0)) + 1
        if affine:
            low, high = min(histogram.extremes.low, 0.0), max(histogram.extremes.high, 0.0)
            levels = round(2**self.bits * max(-low, high) / (high - low))
        if len(counts) <= levels:
            return histogram.extremes.amax
        counts[0] = counts[1]
        divergence = divergences(counts, levels=levels)  # (I,)
        # Values within 1e-12 of each other differ by rounding only (float64, sums of about a thousand terms).
        best = int(np.flatnonzero(divergence <= divergence.min() + 1e-12)[-1])
        return min((levels + best) * together * histogram.width, histogram.extremes.amax)


def divergences(counts: NDArray[np.int64], *, levels: int) -> NDArray[np.float64]:
    """D(i) for i = levels … n; infinite where half of the values or more lie beyond; (n,) → (n − levels + 1,)."""
    ends = np.arange(levels, len(counts) + 1)  # (I,)
    edges = ends[:, None] * np.arange(levels + 1) // levels  # (I, L + 1)
    inside = np.concatenate([[0], np.cumsum(counts)])  # (n + 1,)
    filled = np.concatenate([[0], np.cumsum(counts > 0)])  # (n + 1,)
    total = inside[-1]
    beyond = total - inside[ends]  # (I,)
    last = counts[ends - 1]  # (I,)
    one = (last == 0) & (beyond > 0)  # (I,): an empty last bin that P fills
    level_counts = np.diff(inside[edges], axis=1).astype(np.float64)  # (I, L)
    level_filled = np.diff(filled[edges], axis=1)  # (I, L)
    level_counts[:, -1] += one
    level_filled[:, -1] += one
    held = np.maximum(inside[ends] + one, 1).astype(np.float64)  # (I,)

    # Σ P log P, from cumulated c · log c and the last bin with what lies beyond.
    before_last = np.concatenate([[0.0], np.cumsum(_x_log_x(counts))])[ends - 1]
    self_term = (before_last + _x_log_x(last + beyond)) / total - np.log(total)  # (I,)

    # Σ P log Q: per level, its share of P times the logarithm of its height in Q.
    height = np.where(level_counts > 0, level_counts / np.maximum(level_filled, 1), 1.0)  # (I, L)
    mass = level_counts.copy()
    mass[:, -1] += beyond - one
    cross_term = (mass * np.log(height)).sum(axis=1) / total - np.log(held)  # (I,)

    result: NDArray[np.float64] = np.where(2 * beyond >= total, np.inf, self_term - cross_term)
    return result


def _x_log_x(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """x · log x, with 0 · log 0 = 0."""
    return counts.astype(np.float64) * np.log(np.maximum(counts, 1))
