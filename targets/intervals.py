"""What a finite number of samples says about the truth: intervals that assume as little as possible.

Every bound is one-sided at the given confidence: the truth is above `low` with 95 %, and below `high` with 95 %.

Quantiles by order statistics, free of any assumption on the shape of the distribution (David & Nagaraja 2003, "Order
Statistics", section 7.1). With B ~ Binomial(n, q) and x₁ ≤ … ≤ xₙ,

    high = x_r for the smallest r with P(B ≤ r−1) ≥ confidence      (none for p99 below n = 299 = ⌈ln 0.05 / ln 0.99⌉)
    low  = x_l for the largest  l with P(B ≤ l−1) ≤ 1 − confidence

Accuracy drops by pairs: both models answer the same inputs, and only those on which they disagree inform. With b
inputs on which the reference alone is right and c on which the candidate alone is, drop = p_b − p_c.

- Fewer than ten disagreements: exact and conservative. drop ≤ p_b, whose upper bound is Clopper & Pearson's (1934,
  "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26:404); −drop ≤ p_c
  likewise. For graded scores in 0..1 the same holds, since no input can lose more than one.
- From ten on, for scores of 0 and 1: Tango 1998, "Equivalence test and confidence interval for the difference in
  proportions for the paired-sample design", Statistics in Medicine 17:891. The interval holds every drop d with

      | b − c − n·d |  ≤  z · √( n · (2·p_c(d) + d·(1 − d)) )

  where p_c(d) is the likeliest p_c if the drop is d: the larger root of
  2n·p² + (−b − c + (2n − b + c)·d)·p − c·d·(1 − d) = 0.
- From ten on, for graded scores: percentile bootstrap over the pairs (Efron & Tibshirani 1993, chapter 13), seeded.
- Scores that lie between 0 and 1 for most inputs (a distance to the right answer, say) have no inputs that agree: two
  models that are nearly the same differ on every one, a little. Then the bootstrap holds from ten inputs on, however
  many of them differ; else the better of two candidates would be the less certain one.

Letters: n samples, q quantile, d drop, z quantile of the normal distribution.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FEW_DISAGREEMENTS = 10  # below, Tango's normal approximation of the score is not trusted
RESAMPLES = 2000  # the 5 % tail then rests on 100 resamples


@dataclass(frozen=True)
class Interval:
    """The truth is above `low` with 95 %, and below `high` with 95 %; infinite where the samples say nothing."""

    low: float
    high: float


def quantile_interval(samples: Sequence[float], q: float, *, confidence: float = 0.95) -> Interval:
    """Bounds of the true q-quantile, each side at this confidence, for independent samples."""
    low_rank, high_rank = quantile_ranks(len(samples), q, confidence=confidence)
    ordered = sorted(samples)
    low = ordered[low_rank - 1] if low_rank is not None else -math.inf
    high = ordered[high_rank - 1] if high_rank is not None else math.inf
    return Interval(low, high)


def quantile_ranks(n: int, q: float, *, confidence: float = 0.95) -> tuple[int | None, int | None]:
    """Which of n ordered samples, counted from one, bound the q-quantile from below and from above."""
    low_rank: int | None = None
    below = 0.0  # P(B ≤ rank − 1)
    for rank in range(1, n + 1):
        below += _binomial(n, rank - 1, q)
        if below <= 1 - confidence:
            low_rank = rank
        if below >= confidence:
            return low_rank, rank
    return low_rank, None


def samples_for_upper_bound(q: float, *, confidence: float = 0.95) -> int:
    """The least number of samples whose largest bounds the q-quantile: 299 for p99."""
    return math.ceil(math.log(1 - confidence) / math.log(q))


def paired_drop_interval(
    reference_scores: Sequence[float], candidate_scores: Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Bounds of the accuracy drop (reference − candidate) in points, from scores in 0..1 on the same inputs."""
    reference = np.asarray(reference_scores, dtype=np.float64)  # (N,)
    candidate = np.asarray(candidate_scores, dtype=np.float64)  # (N,)
    if reference.shape != candidate.shape or reference.ndim != 1:
        raise ValueError(
            f"paired scores need one row each of the same length, not {reference.shape}, {candidate.shape}"
        )
    n = len(reference)
    if n == 0:
        return Interval(-math.inf, math.inf)
    b, c = int((reference > candidate).sum()), int((candidate > reference).sum())
    between = (reference > 0) & (reference < 1) | (candidate > 0) & (candidate < 1)
    if n >= FEW_DISAGREEMENTS and between.mean() > 1 / 2:
        low, high = _bootstrap(reference - candidate, confidence=confidence, seed=seed)
    elif b + c < FEW_DISAGREEMENTS:
        low, high = -_proportion_at_most(c, n, confidence=confidence), _proportion_at_most(b, n, confidence=confidence)
    elif bool(np.isin(reference, (0.0, 1.0)).all() and np.isin(candidate, (0.0, 1.0)).all()):
        low, high = tango_interval(b, c, n, confidence=confidence)
    else:
        low, high = _bootstrap(reference - candidate, confidence=confidence, seed=seed)
    return Interval(100 * low, 100 * high)


def tango_interval(b: int, c: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Tango's bounds of p_b − p_c, each side at this confidence."""
    z = NormalDist().inv_cdf(confidence)

    def score(drop: float) -> float:
        half = -b - c + (2 * n - b + c) * drop
        root = math.sqrt(max(0.0, half * half + 8 * n * c * drop * (1 - drop)))
        p_c = (root - half) / (4 * n)
        variance = n * (2 * p_c + drop * (1 - drop))
        distance = b - c - n * drop
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    seen = (b - c) / n
    low = _crossing(lambda drop: score(drop) <= z, -1.0, seen)
    high = _crossing(lambda drop: score(drop) <= -z, seen, 1.0)
    return low, high


def _proportion_at_most(count: int, n: int, *, confidence: float) -> float:
    """Clopper and Pearson's upper bound: the p at which seeing `count` or fewer of n has probability 1 − confidence."""
    if count == n:
        return 1.0
    return _crossing(
        lambda p: math.fsum(_binomial(n, k, p) for k in range(count + 1)) <= 1 - confidence, count / n, 1.0
    )


def _bootstrap(drops: NDArray[np.float64], *, confidence: float, seed: int) -> tuple[float, float]:
    random = np.random.default_rng(seed)
    n = len(drops)
    # One resample at a time: all at once would be RESAMPLES × N numbers.
    means = [float(drops[random.integers(0, n, n)].mean()) for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (1 - confidence, confidence))
    return float(low), float(high)


def _binomial(n: int, k: int, p: float) -> float:
    """P(B = k), through logarithms so that large n neither overflows nor vanishes early."""
    if p <= 0 or p >= 1:
        return float(k == (0 if p <= 0 else n))
    chosen = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(chosen + k * math.log(p) + (n - k) * math.log1p(-p))


def _crossing(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that fails at `low` begins to hold on the way to `high`, by bisection."""
    for _ in range(60):  # halves an interval of length two below the spacing of doubles
        middle = (low + high) / 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return (low + high) / 2
