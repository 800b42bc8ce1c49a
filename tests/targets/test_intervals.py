"""Intervals, against figures on paper, published figures, slow obvious versions and simulated coverage."""

import math
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest

from targets.intervals import paired_drop_interval, quantile_interval, samples_for_upper_bound, tango_interval


def test_the_largest_of_299_samples_bounds_p99() -> None:
    assert quantile_interval(range(1, 300), 0.99).high == 299  # 1 − 0.99²⁹⁹ = 0.9505


def test_298_samples_do_not_bound_p99_from_above() -> None:
    assert quantile_interval(range(1, 299), 0.99).high == math.inf  # 1 − 0.99²⁹⁸ = 0.9499
    assert samples_for_upper_bound(0.99) == 299


def test_five_samples_bound_the_median_and_four_do_not() -> None:
    assert quantile_interval([5, 3, 1, 4, 2], 0.5) == quantile_interval([1, 2, 3, 4, 5], 0.5)
    five, four = quantile_interval([1, 2, 3, 4, 5], 0.5), quantile_interval([1, 2, 3, 4], 0.5)
    assert (five.low, five.high) == (1, 5)  # 2⁻⁵ = 0.031 is below 5 %
    assert (four.low, four.high) == (-math.inf, math.inf)  # 2⁻⁴ = 0.063 is not


def test_no_sample_says_nothing() -> None:
    assert quantile_interval([], 0.99).high == math.inf
    assert paired_drop_interval([], []).high == math.inf


@pytest.mark.parametrize(("n", "q"), [(20, Fraction(1, 2)), (60, Fraction(9, 10)), (320, Fraction(99, 100))])
def test_ranks_are_those_of_the_exact_binomial(n: int, q: Fraction) -> None:
    terms = (math.comb(n, i) * q**i * (1 - q) ** (n - i) for i in range(n + 1))
    at_most = list(accumulate(terms))  # P(B ≤ k), slowly and without rounding
    high = min(r for r in range(1, n + 1) if at_most[r - 1] >= Fraction(95, 100))
    low = max(r for r in range(1, n + 1) if at_most[r - 1] <= Fraction(5, 100))
    bounds = quantile_interval(range(1, n + 1), float(q))
    assert (bounds.low, bounds.high) == (low, high)


def test_the_upper_bound_of_p99_fails_in_at_most_5_of_100_runs_of_a_skewed_clock() -> None:
    random = np.random.default_rng(3)
    runs, truth = 1000, -math.log(0.01)  # p99 of the exponential distribution
    held = sum(quantile_interval(random.exponential(size=500).tolist(), 0.99).high >= truth for _ in range(runs))
    assert held / runs >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / runs)  # three standard errors of 1000 runs


def test_tango_gives_the_published_interval_of_21_children() -> None:
    # Fagerland, Lydersen & Laake 2014, Stat. Med. 33:2850, airway hyper-responsiveness before and after stem cell
    # transplantation (1, 1, 7, 12): −0.517 to −0.026, two-sided 95 %, printed to three decimals.
    low, high = tango_interval(1, 7, 21, confidence=0.975)
    assert (low, high) == pytest.approx((-0.517, -0.026), abs=0.0005)


def test_tango_turns_round_when_the_models_change_places() -> None:
    forth, back = tango_interval(17, 5, 300), tango_interval(5, 17, 300)
    assert forth == pytest.approx((-back[1], -back[0]), abs=1e-12)  # bisection to the spacing of doubles


def test_tango_holds_a_drop_of_half_a_point_in_95_of_100_test_sets() -> None:
    # 2000 inputs, the reference alone right on 1.5 %, the candidate alone on 1 %.
    random = np.random.default_rng(4)
    tests = random.multinomial(2000, [0.015, 0.01, 0.975], size=2000)
    bounds = [tango_interval(int(b), int(c), 2000) for b, c, _ in tests]
    below = np.mean([low <= 0.005 for low, _ in bounds])
    above = np.mean([high >= 0.005 for _, high in bounds])
    # Four standard errors of 2000 test sets (0.0049 each): 0.93 to 0.97. It is an approximation, not a bound.
    assert 0.93 <= below <= 0.97
    assert 0.93 <= above <= 0.97


def test_no_disagreement_on_299_inputs_leaves_up_to_one_point() -> None:
    same = [1.0] * 299
    bounds = paired_drop_interval(same, same)
    assert bounds.high == pytest.approx(100 * (1 - 0.05 ** (1 / 299)), abs=1e-9)  # Clopper–Pearson by hand: 0.997
    assert bounds.low == -bounds.high


def test_three_losses_of_100_bound_the_drop_as_clopper_and_pearson_printed() -> None:
    reference, candidate = [1.0] * 100, [0.0] * 3 + [1.0] * 97
    # 3 of 100, one-sided 95 %: 7.571 % (the beta quantile 0.95 of (4, 97)), rounded in tables to four figures.
    assert paired_drop_interval(reference, candidate).high == pytest.approx(7.571, abs=0.0005)


def test_the_tenth_disagreement_switches_to_tango() -> None:
    reference = [1.0] * 500
    nine = paired_drop_interval(reference, [0.0] * 9 + [1.0] * 491)
    ten = paired_drop_interval(reference, [0.0] * 10 + [1.0] * 490)
    assert nine.low < 0  # exact but one-sided by construction: no gain was seen, yet one is not excluded
    assert (ten.low, ten.high) == tuple(100 * bound for bound in tango_interval(10, 0, 500))


def test_the_upper_bound_with_few_disagreements_holds_in_95_of_100_test_sets() -> None:
    random = np.random.default_rng(5)
    held = []
    for _ in range(1000):  # 200 inputs; 1.5 % lost, 0.5 % won: a drop of one point, about four disagreements
        draw = random.choice(3, size=200, p=[0.015, 0.005, 0.98])
        bounds = paired_drop_interval((draw != 1).astype(float).tolist(), (draw != 0).astype(float).tolist())
        held.append(bounds.high >= 1.0)
    assert np.mean(held) >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 1000)  # three standard errors of 1000 test sets


def test_graded_scores_are_resampled_the_same_way_twice_and_hold_the_mean() -> None:
    random = np.random.default_rng(6)
    reference = random.uniform(0.4, 1.0, 400)
    candidate = np.clip(reference - random.normal(0.02, 0.05, 400), 0, 1)
    first, again = paired_drop_interval(reference, candidate), paired_drop_interval(reference, candidate)
    drop = 100 * float((reference - candidate).mean())
    error = 100 * float((reference - candidate).std()) / math.sqrt(400)
    assert first == again
    # The bootstrap of a mean of 400 is near normal: ±1.645 standard errors, within a fifth of one (2000 resamples).
    assert first.low == pytest.approx(drop - 1.645 * error, abs=0.2 * error)
    assert first.high == pytest.approx(drop + 1.645 * error, abs=0.2 * error)


def test_scores_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        paired_drop_interval([1.0, 0.0], [1.0])


def test_continuous_scores_that_hardly_differ_on_24_inputs_are_known_to_differ_little() -> None:
    reference = np.linspace(0.9, 0.99, 24)
    near = reference - 1e-9 * (np.arange(24) % 3 == 0)  # 8 disagreements, below the 10 that right and wrong would need
    interval = paired_drop_interval(reference.tolist(), near.tolist())
    assert -1e-6 < interval.low <= interval.high < 1e-6
    right = [1.0] * 24  # of scores of 0 and 1 as many inputs say no more than 11.7 points: 1 − 0.05^(1/24)
    assert paired_drop_interval(right, right).high == pytest.approx(100 * (1 - 0.05 ** (1 / 24)))
