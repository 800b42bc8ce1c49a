"""How many times as long one engine takes as another, from calls in turns in several fresh processes.

A **sitting** is one opening of both engines in one process; its ratio is the median of

    log( the shortest call of a turn of the candidate / the shortest call of a turn of the baseline )

over all turns of one round, and of rounds that follow each other: what slows the machine for longer than a round slows
both turns of a pair, and what hits single calls is passed by. A **process** is the mean of its sittings. Processes are
the independent observations (clusters): calls of one process share the place of its memory, and more of them do not
average that out.

The interval is that of the signed-rank statistic, free of any assumption but that processes err as often upwards as
downwards, which the drawn order of opening and of turns provides: with x₁ … x_n the processes' log ratios and the
N Walsh averages (x_i + x_j)/2, i ≤ j, in order, w₁ ≤ w₂ ≤ …,

    low = w_(c+1),  high = w_(N−c)   for the largest c with P(T ≤ c) ≤ error rate of one side,   N = n(n+1)/2

where T is Wilcoxon's statistic under symmetry; the estimate is the median of all Walsh averages (Hodges & Lehmann 1963,
"Estimates of location based on rank tests", Annals of Mathematical Statistics 34:598; Hollander, Wolfe & Chicken 2014,
"Nonparametric Statistical Methods", sections 3.1 to 3.3). With n processes no interval has an error rate below 2⁻ⁿ.

A gate looks several times while it samples. The looks are fixed before the first sample, and each spends its own part
of the error rate (Bonferroni), so that all of them together are wrong as seldom as stated.

Letters: n processes, T rank sum, c the greatest rank sum that is that seldom.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from targets.intervals import Interval

EXACT_TO = 60  # processes; above, the normal approximation of T is used: there it is within 1 % of c, on the safe side


@dataclass(frozen=True)
class Estimate:
    """A ratio, candidate / baseline, and the interval that it lies in."""

    ratio: float
    interval: Interval
    processes: int


@dataclass(frozen=True)
class Looks:
    """When a gate looks, as parts of its time, and how much of the error rate each look spends.

    Later looks spend more: they decide what is close.
    """

    at: tuple[float, ...] = (0.3, 0.5, 0.75, 1.0)
    parts: tuple[float, ...] = (0.2, 0.25, 0.25, 0.3)
    error_rate: float = 0.01

    def spent(self, look: int) -> float:
        """The error rate of one side of the interval at this look, counted from nought."""
        return self.error_rate * self.parts[look]


def log_ratio_of_sitting(baseline_ms: Sequence[float], candidate_ms: Sequence[float], *, timed: int) -> float:
    """The median of log(shortest of the candidate's turn / shortest of the baseline's) over neighbouring turns.

    baseline_ms, candidate_ms: (rounds × timed) · timed: calls per turn
    """
    shortest = [np.asarray(each, np.float64).reshape(-1, timed).min(axis=1) for each in (baseline_ms, candidate_ms)]
    baseline, candidate = (np.log(each) for each in shortest)  # (rounds,)
    pairs = (candidate - baseline, candidate[:-1] - baseline[1:], candidate[1:] - baseline[:-1])
    return float(np.median(np.concatenate(pairs)))


def estimate_from(log_ratios: Sequence[float], *, error_rate: float) -> Estimate:
    """The ratio of all processes, with its interval; each end is wrong at most this often.

    Ends are infinite while there are too few processes for that.
    """
    n = len(log_ratios)
    walsh = walsh_averages(log_ratios)
    centre = math.exp(float(np.median(walsh))) if n else math.nan
    seldom = rank_sum_at_most(n, error_rate) if n else None
    if seldom is None:
        return Estimate(centre, Interval(0.0, math.inf), n)
    low, high = float(walsh[seldom]), float(walsh[len(walsh) - 1 - seldom])
    return Estimate(centre, Interval(math.exp(low), math.exp(high)), n)


def walsh_averages(values: Sequence[float]) -> NDArray[np.float64]:
    """(x_i + x_j) / 2 for all i ≤ j, ascending."""
    x = np.asarray(values, np.float64)  # (n,)
    first, second = np.triu_indices(len(x))
    return np.sort((x[first] + x[second]) / 2)


def rank_sum_at_most(n: int, probability: float) -> int | None:
    """The greatest c with P(T ≤ c) ≤ probability for n symmetric values; None where even T = 0 is likelier."""
    if n > EXACT_TO:
        mean, deviation = n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return math.floor(mean + deviation * NormalDist().inv_cdf(probability) - 0.5)
    below, found = 0.0, None
    for rank_sum, ways in enumerate(_ways(n)):
        below += ways / 2.0**n
        if below > probability:
            break
        found = rank_sum
    return found


def smallest_seen(log_ratios: Sequence[float], *, limit: float, error_rate: float, certainty: float = 0.95) -> float:
    """The least true ratio that such processes would have found above `limit` with this certainty.

    The half-width of the interval, and as much again as the estimate may fall short, by a normal approximation of it.
    """
    found = estimate_from(log_ratios, error_rate=error_rate)
    if not math.isfinite(found.interval.high) or error_rate >= 0.5:  # an interval that is wrong half the time
        return math.inf
    half = (math.log(found.interval.high) - math.log(found.interval.low)) / 2
    z_error, z_sure = NormalDist().inv_cdf(1 - error_rate), NormalDist().inv_cdf(certainty)
    return math.exp(math.log(limit) + half * (1 + z_sure / z_error))


@cache
def _ways(n: int) -> tuple[int, ...]:
    """In how many ways the ranks 1 … n, each taken or not, add up to 0, 1, 2, …"""
    ways = [1]
    for rank in range(1, n + 1):
        longer = ways + [0] * rank
        for rank_sum, count in enumerate(ways):
            longer[rank_sum + rank] += count
        ways = longer
    return tuple(ways)
