"""An exact interval for the accuracy drop of two engines that answered the same inputs.

Of n inputs the reference alone is right on b and the candidate alone on c; the drop is d = p_b − p_c. A drop is
believed unless Tango's score statistic (targets/intervals.py) would be as extreme as it is less often than the error
rate allows, and that probability is summed over all outcomes instead of taken from the normal distribution. It depends
on how often the two differ at all, t = p_b + p_c, which nobody knows; so the largest one counts over the t that the
number of disagreements leaves possible, and the chance that t lies elsewhere is added (Berger & Boos 1994, "P values
maximized over a confidence set for the nuisance parameter", JASA 89:1012; for matched pairs: Sidik 2003, "Exact
unconditional tests for testing non-inferiority in matched-pairs design", Statistics in Medicine 22:265).

    P(S ≤ s) = Σ_D  Bin(D; n, t) · P(B ≤ B*(D)),   B ~ Bin(D, (t + d) / 2t),   B*(D) the greatest B with S ≤ s

Letters: n inputs, b and c disagreements, d drop, t share of disagreements, D their number, S the score, s its value.
"""

import numpy as np
from numpy.typing import NDArray

from targets.intervals import tango_interval

MOST = 100  # disagreements; beyond, Tango's interval is the same to a hundredth of its width
OUTSIDE = 0.05  # of the error rate: that t lies outside of what is tried
TRIED = 12  # values of t
TAIL = 1e-9  # of the distribution of D that is not summed; it is added to the error instead
STEPS = 18  # halvings of the drop: to a hundred-thousandth


def exact_drop_interval(b: int, c: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of p_b − p_c, each side wrong at most this often, whatever the shares are."""
    if b + c > MOST:
        return tango_interval(b, c, n, confidence=confidence)
    return -_upper(c, b, n, 1 - confidence), _upper(b, c, n, 1 - confidence)


def _upper(b: int, c: int, n: int, error_rate: float) -> float:
    """The greatest drop that is not refused."""
    inside, outside = (b - c) / n, 1.0
    for _ in range(STEPS):
        middle = (inside + outside) / 2
        if _as_low(b, c, n, middle, error_rate) > error_rate:
            inside = middle
        else:
            outside = middle
    return outside


def _as_low(b: int, c: int, n: int, drop: float, error_rate: float) -> float:
    """How likely a score as low as this one is at the most, for a true drop of `drop`."""
    shares = _shares(b + c, n, drop, error_rate * OUTSIDE)  # (T,)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    counts = np.arange(n + 1)
    most = min(n, b + c + 40 + int(8 * np.sqrt(n * shares.max() + 1) + n * (shares.max() - (b + c) / n)))
    counts = counts[: most + 1]
    score_here = _score(np.array([b]), np.array([c]), n, drop)[0]
    # The greatest B whose score is as low, for every D; the score grows with B.
    cut = [
        int((_score(np.arange(d + 1), d - np.arange(d + 1), n, drop) <= score_here + 1e-9).sum()) - 1
        for d in counts.tolist()
    ]
    worst = 0.0
    for share in shares:
        log_number = _log_binomial(counts, n, share, log_factorial)  # (D,)
        first = np.clip((share + drop) / (2 * share), 0.0, 1.0) if share > 0 else 0.5
        known = np.exp(log_number)
        below = np.array(
            [_binomial_at_most(cut[d], d, first, log_factorial) if known[d] > TAIL else 1.0 for d in counts.tolist()]
        )
        worst = max(worst, float((known * below).sum()))
    return worst + error_rate * OUTSIDE + TAIL


def _shares(disagreements: int, n: int, drop: float, outside: float) -> NDArray[np.float64]:
    """The shares of disagreements that are tried: Clopper and Pearson's interval, no less than the drop."""
    low, high = (_clopper_pearson(disagreements, n, outside / 2, upper=upper) for upper in (False, True))
    low = max(low, abs(drop))
    return np.linspace(low, max(low, high), TRIED)


def _clopper_pearson(count: int, n: int, error_rate: float, *, upper: bool) -> float:
    if count == (n if upper else 0):
        return 1.0 if upper else 0.0
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        at_most = _binomial_at_most(count if upper else count - 1, n, middle, log_factorial)
        likely = at_most > error_rate if upper else 1 - at_most < error_rate
        low, high = (middle, high) if likely else (low, middle)
    return high if upper else low


def _score(b: NDArray[np.int64], c: NDArray[np.int64], n: int, drop: float) -> NDArray[np.float64]:
    """Tango's score of so many disagreements at a drop (targets/intervals.py has the formula)."""
    half = -b - c + (2 * n - b + c) * drop
    root = np.sqrt(np.maximum(0.0, half * half + 8 * n * c * drop * (1 - drop)))
    variance = n * ((root - half) / (2 * n) + drop * (1 - drop))
    distance = b - c - n * drop
    with np.errstate(divide="ignore", invalid="ignore"):
        found = distance / np.sqrt(np.maximum(variance, 0.0))
    return np.where(np.isnan(found), 0.0, found)


def _log_binomial(
    counts: NDArray[np.int64], n: int, p: float, log_factorial: NDArray[np.float64]
) -> NDArray[np.float64]:
    ways = log_factorial[n] - log_factorial[counts] - log_factorial[n - counts]
    if p <= 0 or p >= 1:
        return np.where(counts == (0 if p <= 0 else n), 0.0, -np.inf)
    return np.asarray(ways + counts * np.log(p) + (n - counts) * np.log1p(-p))


def _binomial_at_most(most: int, n: int, p: float, log_factorial: NDArray[np.float64]) -> float:
    """P(B ≤ most)."""
    if most < 0:
        return 0.0
    return min(1.0, float(np.exp(_log_binomial(np.arange(min(most, n) + 1), n, p, log_factorial)).sum()))
