"""The exact interval of an accuracy drop: its coverage by enumeration of every outcome, and figures on paper."""

import itertools
import math

import pytest

from targets.exact_drop import exact_drop_interval
from targets.intervals import tango_interval


def test_over_all_45_outcomes_of_8_inputs_the_bound_is_below_the_truth_in_at_most_5_of_100_runs() -> None:
    n, confidence = 8, 0.95
    outcomes = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    highs = {each: exact_drop_interval(*each, n, confidence=confidence)[1] for each in outcomes}
    for p_b, p_c in itertools.product((0.01, 0.1, 0.25, 0.4, 0.6), repeat=2):
        if p_b + p_c > 1:
            continue
        wrong = sum(
            math.comb(n, b) * math.comb(n - b, c) * p_b**b * p_c**c * (1 - p_b - p_c) ** (n - b - c)
            for (b, c), high in highs.items()
            if high < p_b - p_c
        )
        assert wrong <= 0.05 + 1e-6, (p_b, p_c)


def test_tango_s_own_interval_is_wrong_in_10_of_100_runs_of_8_inputs_of_which_85_in_100_are_lost() -> None:
    n, p_b, p_c = 8, 0.85, 0.005  # why there is an exact one; 5 of 100 were allowed
    wrong = sum(
        math.comb(n, b) * math.comb(n - b, c) * p_b**b * p_c**c * (1 - p_b - p_c) ** (n - b - c)
        for b in range(n + 1)
        for c in range(n + 1 - b)
        if tango_interval(b, c, n)[1] < p_b - p_c
    )
    assert wrong == pytest.approx(0.105, abs=0.001)


def test_engines_that_agree_on_all_40_inputs_may_differ_by_what_40_right_answers_leave_open() -> None:
    low, high = exact_drop_interval(0, 0, 40, confidence=0.99)
    assert high == pytest.approx(1 - 0.01 ** (1 / 40), abs=0.003)  # Clopper and Pearson's 10.9 %, and what t costs
    assert low == pytest.approx(-high, abs=1e-4)


@pytest.mark.parametrize(("b", "c"), [(5, 7), (0, 3), (9, 1)])
def test_the_interval_turns_round_when_the_engines_change_places(b: int, c: int) -> None:
    forth, back = exact_drop_interval(b, c, 300), exact_drop_interval(c, b, 300)
    assert forth == pytest.approx((-back[1], -back[0]), abs=1e-9)


def test_with_40_disagreements_of_1000_it_is_tango_s_to_a_twentieth_of_its_width() -> None:
    exact, score = exact_drop_interval(30, 10, 1000), tango_interval(30, 10, 1000)
    width = score[1] - score[0]
    assert exact == pytest.approx(score, abs=0.05 * width)


def test_beyond_100_disagreements_it_is_tango_s() -> None:
    assert exact_drop_interval(60, 50, 3000) == tango_interval(60, 50, 3000)
