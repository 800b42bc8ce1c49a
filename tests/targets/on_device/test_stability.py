"""When times are not to be trusted, by hand."""

import random

import pytest

from targets.on_device.stability import drift, unstable, variation

CALM = {"power_mode": {"name": "15W", "id": 0}, "clocks": {}, "throttling": {"oc1": 3}, "gpus": []}


def run_of(times_ms: list[float]) -> dict[str, object]:
    return {"engine": "int8.plan", "process": 0, "compute_ms": times_ms}


def test_times_of_1_and_3_vary_by_half_of_their_mean() -> None:
    assert variation([1.0, 3.0]) == 0.5  # mean 2, deviation 1


def test_0_times_are_neither_unsteady_nor_an_error() -> None:
    assert unstable([run_of([])], {}, {}) == []


def test_a_variation_of_2_4_percent_passes_and_one_of_2_6_does_not() -> None:
    for share, sentences in ((0.024, 0), (0.026, 1)):
        times = [1 - share, 1 + share] * 100  # mean 1, deviation `share`, both halves alike
        assert len(unstable([run_of(times)], CALM, CALM)) == sentences


def test_processors_may_vary_by_30_percent() -> None:
    assert unstable([run_of([0.7, 1.3] * 100)], CALM, CALM, variation_limit=None) == []


def test_a_second_half_that_is_3_percent_slower_is_told_though_it_varies_by_only_1_5_percent() -> None:
    times = [1.0] * 100 + [1.03] * 100
    assert variation(times) == pytest.approx(0.015, abs=3e-4)  # half the step, over a mean of 1.015
    (sentence,) = unstable([run_of(times)], CALM, CALM)
    assert "3.0% slower" in sentence and "int8.plan, process 0" in sentence


def test_a_second_half_that_is_3_percent_faster_is_told_as_well() -> None:
    (sentence,) = unstable([run_of([1.03] * 100 + [1.0] * 100)], CALM, CALM)
    assert "2.9% faster" in sentence


def test_the_middle_one_of_61_times_belongs_to_neither_half() -> None:
    assert drift([1.0] * 30 + [99.0] + [1.0] * 30) == 0


def test_halves_of_29_are_too_small_to_be_judged() -> None:
    assert drift([1.0] * 29 + [2.0] * 29) == 0
    assert drift([1.0] * 30 + [2.0] * 30) == 1


def test_of_200_steady_runs_with_a_variation_of_2_percent_none_is_called_drifting() -> None:
    # 250 samples in each half: the difference of medians has a deviation of 1.25 · 2 % · √(2/250) = 0.22 %
    noise = random.Random(1)
    assert all(abs(drift([noise.gauss(1, 0.02) for _ in range(500)])) < 0.02 for _ in range(200))


def test_neither_scale_nor_order_of_2_processes_changes_the_verdict() -> None:
    noise = random.Random(2)
    times = [noise.gauss(1, 0.03) for _ in range(200)]
    one = unstable([run_of(times)], CALM, CALM)
    assert len(one) >= 1
    assert [len(unstable([run_of([factor * each for each in times])], CALM, CALM)) for factor in (1e-3, 1e3)] == [
        len(one)
    ] * 2
    other = {**run_of([1.0] * 200), "process": 1}
    assert sorted(unstable([run_of(times), other], CALM, CALM)) == sorted(unstable([other, run_of(times)], CALM, CALM))


def test_a_counter_that_rises_from_3_to_5_is_throttling_and_one_that_stays_at_3_is_not() -> None:
    assert unstable([], CALM, CALM) == []
    (sentence,) = unstable([], CALM, {**CALM, "throttling": {"oc1": 5}})
    assert sentence == "the device throttled: oc1 rose by 2."


def test_a_power_mode_that_changed_is_told_by_its_2_names() -> None:
    (sentence,) = unstable([], CALM, {**CALM, "power_mode": {"name": "7W", "id": 1}})
    assert "15W" in sentence and "7W" in sentence


def test_a_highest_clock_that_fell_to_408_mhz_is_told() -> None:
    before = {**CALM, "clocks": {"gpu": {"now_hz": 3, "lowest_hz": 1, "highest_hz": 612_000_000}}}
    after = {**CALM, "clocks": {"gpu": {"now_hz": 9, "lowest_hz": 1, "highest_hz": 408_000_000}}}
    (sentence,) = unstable([], before, after)
    assert sentence == "the highest clock of gpu changed from 612 to 408 MHz."


def test_a_gpu_locked_at_612_mhz_that_runs_at_306_is_told_and_one_that_sleeps_is_not() -> None:
    clock = {"now_hz": 612_000_000, "lowest_hz": 612_000_000, "highest_hz": 612_000_000}
    before = {**CALM, "clocks": {"gpu": clock}}
    (sentence,) = unstable([], before, {**CALM, "clocks": {"gpu": {**clock, "now_hz": 306_000_000}}})
    assert "locked at 612 MHz and ran at 306" in sentence
    assert unstable([], before, {**CALM, "clocks": {"gpu": {**clock, "now_hz": 0}}}) == []


def test_what_holds_down_1_gpu_is_told() -> None:
    after = {**CALM, "gpus": [{"name": "T4", "held_down_by": ["the power limit"]}]}
    (sentence,) = unstable([], CALM, after)
    assert "GPU 0 (T4)" in sentence and "the power limit" in sentence
