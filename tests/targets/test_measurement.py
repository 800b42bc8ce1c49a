"""Figures from samples by hand, and the way to JSON and back."""

import json
import math

import numpy as np
import pytest

from targets.measurement import Accuracy, Conditions, Latency, Measurement, Pairs, measurement_from_json, nearest_rank

CONDITIONS = Conditions(
    target="null", machine="bench", cpu="a processor", cpu_features=("avx2", "fma"), cores=2, operating_system="Linux",
    runtime="nothing 1", threads=1, batch=1, warmup_runs=20, samples=4, load_average=None, governor="performance",
    memory_bytes=None, on_target=True,
)  # fmt: skip


def test_p50_and_p99_of_100_samples_are_the_50th_and_the_99th() -> None:
    latency = Latency(tuple(float(each) for each in range(100, 0, -1)), CONDITIONS)
    assert (latency.p50_ms, latency.p99_ms) == (50.0, 99.0)


def test_the_nearest_rank_of_7_samples_is_always_one_of_them() -> None:
    samples = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert [nearest_rank(samples, q) for q in (0.001, 0.5, 0.99, 1.0)] == [0.1, 0.4, 0.7, 0.7]


def test_the_p99_of_299_samples_lies_between_two_of_them() -> None:
    few, many = Latency((1.0, 2.0), CONDITIONS), Latency(tuple(float(each) for each in range(1, 300)), CONDITIONS)
    assert (few.p99_interval_ms().low, few.p99_interval_ms().high) == (2.0, math.inf)  # both are below it with 98 %
    # P(B ≤ 292) = 0.031 and P(B ≤ 293) = 0.081 for B ~ Binomial(299, 0.99): the 293rd is the highest lower bound.
    assert (many.p99_interval_ms().low, many.p99_interval_ms().high) == (293.0, 299.0)


def test_a_candidate_of_2_ms_is_3_times_faster_than_a_reference_of_6() -> None:
    pairs = Pairs((6.0,) * 50, (2.0,) * 50)
    assert pairs.speedup == 3.0
    assert (pairs.speedup_interval().low, pairs.speedup_interval().high) == (3.0, 3.0)


def test_5_pairs_bound_no_speedup_and_6_do() -> None:
    # Each median at 97.5 %: 2⁻⁵ = 0.031 is too much, 2⁻⁶ = 0.016 is not.
    five = Pairs((6.0,) * 5, (2.0,) * 5).speedup_interval()
    six = Pairs((6.0,) * 6, (2.0,) * 6).speedup_interval()
    assert (five.low, five.high) == (0.0, math.inf)
    assert (six.low, six.high) == (3.0, 3.0)


def test_the_bounds_of_a_speedup_of_2_hold_in_95_of_100_noisy_runs() -> None:
    random = np.random.default_rng(7)
    low = high = 0
    for _ in range(400):
        reference, candidate = 2 * random.lognormal(0, 0.3, 101), random.lognormal(0, 0.3, 101)
        bounds = Pairs(tuple(reference.tolist()), tuple(candidate.tolist())).speedup_interval()
        low, high = low + (bounds.low <= 2), high + (bounds.high >= 2)
    least = 0.95 - 3 * math.sqrt(0.05 * 0.95 / 400)  # three standard errors of 400 runs
    assert low / 400 >= least
    assert high / 400 >= least


def test_3_right_of_4_are_an_accuracy_of_0_75() -> None:
    accuracy = Accuracy((1.0, 0.0, 1.0, 1.0))
    assert (accuracy.value, accuracy.n) == (0.75, 4)


def test_a_full_and_an_empty_measurement_come_back_from_json_unchanged() -> None:
    full = Measurement(
        conditions=CONDITIONS, accuracy=Accuracy((1.0, 0.5)), latency=Latency((0.1, 0.30000000000000004), CONDITIONS),
        pairs=Pairs((2.0, 3.0), (1.0, 0.0)), parameters=10, macs=20, size_bytes=30, peak_memory_bytes=40,
    )  # fmt: skip
    names = ("accuracy", "latency", "pairs", "parameters", "macs", "size_bytes", "peak_memory_bytes")
    empty = Measurement(missing=dict.fromkeys(names, "not asked for"))
    for measurement in (full, empty):
        written = json.dumps(measurement.as_json(), allow_nan=False)
        assert measurement_from_json(json.loads(written)) == measurement


def test_the_json_carries_the_figures_that_a_reader_looks_for() -> None:
    names = ("accuracy", "pairs", "parameters", "macs", "size_bytes", "peak_memory_bytes")
    measurement = Measurement(latency=Latency((1.0, 3.0), CONDITIONS), missing=dict.fromkeys(names, "not asked for"))
    latency = measurement.as_json()["latency"]
    assert (latency["p50_ms"], latency["p99_ms"], latency["p99_interval_ms"]) == (1.0, 3.0, [3.0, None])


def test_each_of_7_numbers_is_there_or_explained_and_not_both() -> None:
    with pytest.raises(ValueError, match="lacks accuracy, latency, pairs, parameters, macs, size_bytes, peak_memory"):
        Measurement()
    names = ("accuracy", "latency", "pairs", "parameters", "macs", "peak_memory_bytes")
    with pytest.raises(ValueError, match="size_bytes, which is not missing"):
        Measurement(size_bytes=1, missing=dict.fromkeys((*names, "size_bytes"), "not asked for"))
