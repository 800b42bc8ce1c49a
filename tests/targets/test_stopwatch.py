"""The stopwatch: what it counts, in which order, and what it leaves behind. No test here fails on time."""

import gc

import pytest

from targets.stopwatch import count_for, now_s, sample_ms, sample_pairs_ms, sample_turns_ms, settle


def test_a_slow_network_still_gets_299_samples_and_a_fast_one_no_more_than_2000() -> None:
    assert count_for(1000.0, seconds=5) == 299
    assert count_for(10.0, seconds=5) == 500
    assert count_for(0.001, seconds=5) == 2000
    assert count_for(0.0, seconds=5) == 2000
    with pytest.raises(ValueError, match="least"):
        count_for(1.0, seconds=5, least=10, most=9)


def test_12_samples_are_12_calls() -> None:
    calls = []
    samples = sample_ms(lambda: calls.append(gc.isenabled()), count=12)
    assert len(samples) == len(calls) == 12
    assert min(samples) >= 0
    assert not any(calls)  # the garbage collector rests meanwhile
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off_after_3_samples() -> None:
    gc.disable()
    try:
        sample_ms(lambda: None, count=3)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_call_that_fails_gives_the_collector_back() -> None:
    with pytest.raises(ZeroDivisionError):
        sample_ms(lambda: 1 / 0, count=3)
    assert gc.isenabled()


def test_40_pairs_are_taken_in_turns_in_an_order_drawn_by_seed() -> None:
    def order(seed: int) -> str:
        calls: list[str] = []
        a_ms, b_ms = sample_pairs_ms(lambda: calls.append("a"), lambda: calls.append("b"), count=40, seed=seed)
        assert len(a_ms) == len(b_ms) == 40
        return "".join(calls)

    first = order(1)
    pairs = [first[place : place + 4] for place in range(0, 160, 4)]
    assert set(pairs) == {
        "aabb",
        "bbaa",
    }  # each pair holds both, each timed call after an untimed one; both orders occur
    assert order(1) == first
    assert order(2) != first


def test_30_rounds_of_3_hold_each_once_after_an_untimed_call_of_its_own() -> None:
    calls: list[str] = []
    times_ms = sample_turns_ms([lambda name=name: calls.append(name) for name in "abc"], count=30, seed=1)
    assert [len(each) for each in times_ms] == [30, 30, 30]
    rounds = ["".join(calls[place : place + 6]) for place in range(0, 180, 6)]
    assert {"".join(sorted(each[::2])) for each in rounds} == {"abc"}
    assert all(each[::2] == each[1::2] for each in rounds)
    assert len(set(rounds)) == 6  # every order of three occurs


def test_warming_up_makes_at_least_1_run_and_tells_how_many() -> None:
    calls: list[int] = []
    runs, median_ms = settle(lambda: calls.append(1), max_seconds=0.0)
    assert runs == len(calls) == 1
    assert median_ms >= 0


def test_warming_up_ends_by_itself_after_at_least_20_runs() -> None:
    runs, _ = settle(lambda: sum(range(1000)), max_seconds=60.0)
    assert runs >= 20  # two windows of ten
    assert runs % 10 == 0


def test_the_clock_never_goes_back_in_1000_looks() -> None:
    looks = [now_s() for _ in range(1000)]
    assert looks == sorted(looks)
