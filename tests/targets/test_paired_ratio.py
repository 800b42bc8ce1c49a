"""The ratio of two engines and its interval: by hand, against every sign, and on simulated machines."""

import itertools
import math

import numpy as np
import pytest

from targets.paired_ratio import (
    Looks,
    estimate_from,
    log_ratio_of_sitting,
    rank_sum_at_most,
    smallest_seen,
    walsh_averages,
)


def test_of_turns_of_2_calls_the_shortest_count_and_neighbours_are_paired_too() -> None:
    # Shortest per turn: baseline 10, 20; candidate 11, 22. Pairs: 11/10, 22/20, 11/20, 22/10; the median of their
    # logarithms is that of 1.1.
    found = log_ratio_of_sitting([10, 99, 50, 20], [70, 11, 22, 22], timed=2)
    assert found == pytest.approx(math.log(1.1), abs=1e-12)


def test_a_machine_that_slows_down_threefold_between_rounds_leaves_the_ratio_alone() -> None:
    speed = np.repeat([1.0, 3.0, 1.5, 2.0, 1.2], 4)
    assert log_ratio_of_sitting(list(speed), list(1.04 * speed), timed=4) == pytest.approx(math.log(1.04), abs=1e-12)


def test_1_slow_call_in_each_turn_of_3_changes_nothing() -> None:
    clean, hit = [1.0, 1.0, 1.0] * 7, [1.0, 8.0, 1.0] * 7
    assert log_ratio_of_sitting(clean, hit, timed=3) == 0


def test_the_walsh_averages_of_3_values_are_these_6() -> None:
    assert walsh_averages([4.0, 1.0, 2.0]).tolist() == [1.0, 1.5, 2.0, 2.5, 3.0, 4.0]


@pytest.mark.parametrize("n", [1, 5, 9, 12])
def test_rank_sums_are_as_seldom_as_among_all_signs(n: int) -> None:
    sums = [sum(rank for rank, sign in enumerate(signs, 1) if sign) for signs in itertools.product((0, 1), repeat=n)]
    for probability in (0.001, 0.01, 0.05, 0.3):
        seldom = [c for c in range(n * (n + 1) // 2 + 1) if sum(s <= c for s in sums) / 2**n <= probability]
        assert rank_sum_at_most(n, probability) == (max(seldom) if seldom else None)


def test_beyond_60_processes_the_approximation_errs_by_at_most_6_ranks_of_750_and_to_the_safe_side() -> None:
    ways = np.ones(1)  # how often each rank sum of 70 processes comes, slowly
    for rank in range(1, 71):
        ways = np.concatenate([ways, np.zeros(rank)]) + np.concatenate([np.zeros(rank), ways])
    for probability in (0.002, 0.01, 0.05):
        exact = int(np.searchsorted(np.cumsum(ways / 2.0**70), probability, side="right")) - 1
        assert 0 <= exact - (rank_sum_at_most(70, probability) or 0) <= 6


def test_8_processes_never_suffice_for_an_error_of_1_in_300_and_9_do() -> None:
    equal = estimate_from([0.01] * 8, error_rate=1 / 300)
    assert (equal.interval.low, equal.interval.high) == (0.0, math.inf)  # 2⁻⁸ = 1/256
    nine = estimate_from([0.01] * 9, error_rate=1 / 300)
    assert nine.interval.low == pytest.approx(math.exp(0.01)) == nine.interval.high


def test_the_interval_of_9_values_at_1_in_500_reaches_from_the_least_to_the_greatest() -> None:
    values = [0.01 * each for each in (3, 1, 4, 1.5, 9, 2.6, 5, 3.5, 8)]
    found = estimate_from(values, error_rate=1 / 500).interval
    assert (found.low, found.high) == (pytest.approx(math.exp(0.01)), pytest.approx(math.exp(0.09)))  # 2⁻⁹ = 1/512


@pytest.mark.parametrize("shape", ["normal", "heavy tails", "two places in memory"])
def test_the_truth_lies_above_the_interval_in_at_most_2_of_100_runs_where_2_are_allowed(shape: str) -> None:
    draw, wrong, runs = np.random.default_rng(7), 0, 3000
    for _ in range(runs):
        if shape == "normal":
            errors = draw.normal(0, 0.01, 14)
        elif shape == "heavy tails":
            errors = 0.004 * draw.standard_t(2, 14)
        else:  # an engine opened at a bad place is 2 % slower; either of the two may be
            errors = 0.02 * (draw.integers(0, 2, 14) - draw.integers(0, 2, 14)) + draw.normal(0, 0.002, 14)
        wrong += estimate_from((0.03 + errors).tolist(), error_rate=0.02).interval.high < math.exp(0.03)
    assert wrong / runs <= 0.02 + 3 * math.sqrt(0.02 * 0.98 / runs)  # three standard errors


def test_4_looks_together_are_wrong_at_most_as_often_as_stated_on_equal_engines_at_the_limit() -> None:
    # Processes whose true ratio is the limit itself: every verdict of `regressed` is wrong.
    draw, looks, runs, wrong = np.random.default_rng(11), Looks(error_rate=0.05), 2000, 0
    for _ in range(runs):
        errors = draw.normal(0, 0.01, 40)
        wrong += any(
            estimate_from(errors[: 10 * (look + 1)].tolist(), error_rate=looks.spent(look)).interval.low > 1
            for look in range(4)
        )
    assert 0 < wrong / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_what_the_looks_spend_adds_up_to_the_error_rate_and_the_last_is_at_the_end() -> None:
    looks = Looks()
    assert sum(looks.spent(look) for look in range(len(looks.at))) == pytest.approx(0.01)
    assert looks.at[-1] == 1.0 and list(looks.at) == sorted(looks.at) and len(looks.at) == len(looks.parts)


def test_a_slow_down_of_the_smallest_that_is_seen_is_found_in_about_95_of_100_runs() -> None:
    draw, deviation, n = np.random.default_rng(5), 0.012, 30
    least = np.median([
        math.log(smallest_seen(draw.normal(0, deviation, n).tolist(), limit=1.02, error_rate=0.003)) for _ in range(200)
    ])  # fmt: skip
    found = [
        estimate_from((least + draw.normal(0, deviation, n)).tolist(), error_rate=0.003).interval.low > 1.02
        for _ in range(1000)
    ]
    assert 0.92 <= np.mean(found) <= 0.98  # 0.95, and three standard errors of 1000 runs


def test_too_few_processes_would_have_seen_nothing_however_large() -> None:
    assert smallest_seen([0.0, 0.1], limit=1.02, error_rate=0.01) == math.inf
