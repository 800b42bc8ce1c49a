"""Verdicts at their edges, and what leaves a limit undecided."""

import json
import math
from dataclasses import replace

import pytest

from targets.budget import Budget, Limit
from targets.intervals import Interval
from targets.measurement import Accuracy, Conditions, Latency, Measurement, Pairs
from targets.verdict import Outcome, Verdict, judge, overall_exit_code, verdicts_on

HERE = Conditions(
    target="x86-cpu", machine="bench", cpu="a processor", cpu_features=("avx2",), cores=2, operating_system="Linux",
    runtime="onnxruntime 1.31.1", threads=1, batch=1, warmup_runs=20, samples=299, load_average=0.1, governor=None,
    memory_bytes=8_000_000_000, on_target=True,
)  # fmt: skip
ELSEWHERE = replace(HERE, on_target=False)
NAMES = ("accuracy", "latency", "pairs", "parameters", "macs", "size_bytes", "peak_memory_bytes")


def measured(**known: object) -> Measurement:
    known = {"conditions": HERE, **known}
    return Measurement(**known, missing={name: "not asked for" for name in NAMES if name not in known})  # type: ignore[arg-type]


def only(measurement: Measurement, name: str, bound: float, teacher: Accuracy | None = None) -> Verdict:
    (verdict,) = verdicts_on(measurement, budget=Budget((Limit(name, bound, "a test"),)), teacher=teacher)
    return verdict


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(1.0, 5.0, Outcome.MET), (1.0, 5.1, Outcome.UNDECIDED), (5.0, 9.0, Outcome.UNDECIDED), (5.1, 9.0, Outcome.MISSED)],
)
def test_at_most_5_ms_is_met_up_to_5_and_missed_only_beyond(low: float, high: float, outcome: Outcome) -> None:
    verdict = judge(
        Limit("max_latency_ms", 5.0, "a test"), measured=(low + high) / 2, interval=Interval(low, high),
        conditions=HERE, samples=500,
    )  # fmt: skip
    assert verdict.outcome is outcome


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(4.0, 6.0, Outcome.MET), (3.9, 6.0, Outcome.UNDECIDED), (2.0, 4.0, Outcome.UNDECIDED), (2.0, 3.9, Outcome.MISSED)],
)
def test_at_least_4_x_is_met_from_4_on_and_missed_only_below(low: float, high: float, outcome: Outcome) -> None:
    verdict = judge(
        Limit("min_speedup", 4.0, "a test"), measured=(low + high) / 2, interval=Interval(low, high),
        conditions=HERE, samples=500,
    )  # fmt: skip
    assert verdict.outcome is outcome


def test_100_fast_samples_leave_the_p99_undecided_and_299_meet_it() -> None:
    few = only(measured(latency=Latency((1.0,) * 100, HERE)), "max_latency_ms", 5.0)
    enough = only(measured(latency=Latency((1.0,) * 299, HERE)), "max_latency_ms", 5.0)
    assert (few.outcome, few.why) == (Outcome.UNDECIDED, "needs 299 samples, has 100")
    assert few.as_json()["interval"] == [1.0, None]
    assert enough.outcome is Outcome.MET


def test_100_slow_samples_are_enough_to_miss() -> None:
    assert only(measured(latency=Latency((9.0,) * 100, HERE)), "max_latency_ms", 5.0).outcome is Outcome.MISSED


@pytest.mark.parametrize(
    ("name", "bound"),
    [("max_latency_ms", 5.0), ("min_speedup", 2.0), ("max_accuracy_drop_points", 50.0), ("max_size_mb", 1.0),
     ("max_memory_mb", 1.0)],
)  # fmt: skip
def test_no_limit_is_met_on_another_machine(name: str, bound: float) -> None:
    scores = Accuracy((1.0,) * 1000)
    everything = measured(
        conditions=HERE, latency=Latency((1.0,) * 299, HERE), pairs=Pairs((9.0,) * 99, (1.0,) * 99), accuracy=scores,
        size_bytes=1000, peak_memory_bytes=1000,
    )  # fmt: skip
    away = replace(everything, conditions=ELSEWHERE, latency=Latency((1.0,) * 299, ELSEWHERE))
    assert only(everything, name, bound, scores).outcome is Outcome.MET
    verdict = only(away, name, bound, scores)
    assert verdict.outcome is Outcome.UNDECIDED
    assert "measured on bench, not on x86-cpu" in verdict.why


def test_without_conditions_nothing_is_decided() -> None:
    verdict = only(measured(conditions=None, size_bytes=1), "max_size_mb", 1.0)
    assert (verdict.outcome, verdict.measured) == (Outcome.UNDECIDED, 1e-6)


def test_a_missing_number_is_undecided_with_its_reason() -> None:
    verdict = only(replace(measured(), missing=dict.fromkeys(NAMES, "the device has no counter")), "max_memory_mb", 1.0)
    assert (verdict.outcome, verdict.measured) == (Outcome.UNDECIDED, None)
    assert "the device has no counter" in verdict.why


def test_the_1_sentence_of_a_device_that_is_not_here_says_not_measured_once() -> None:
    said = "not measured on jetson-orin: no device was given"
    verdict = only(replace(measured(), missing=dict.fromkeys(NAMES, said)), "max_latency_ms", 5.0)
    assert (verdict.outcome, verdict.why) == (Outcome.UNDECIDED, said)


def test_1_mb_is_1_000_000_bytes() -> None:
    assert only(measured(size_bytes=1_000_000), "max_size_mb", 1.0).outcome is Outcome.MET
    assert only(measured(size_bytes=1_000_001), "max_size_mb", 1.0).outcome is Outcome.MISSED


def test_a_drop_of_half_a_point_is_undecided_on_1000_inputs_and_met_on_the_number_it_names() -> None:
    def drop(n: int) -> Verdict:
        lost, won = 10 * n // 1000, 5 * n // 1000
        teacher = Accuracy((1.0,) * (n - won) + (0.0,) * won)
        student = Accuracy((0.0,) * lost + (1.0,) * (n - lost))
        return only(measured(accuracy=student), "max_accuracy_drop_points", 1.0, teacher)

    undecided = drop(1000)
    assert undecided.outcome is Outcome.UNDECIDED
    assert undecided.measured == pytest.approx(0.5, abs=1e-9)  # 10 lost, 5 won of 1000; rounding of doubles only
    needed = int(undecided.why.split("needs about ")[1].split()[0])
    # The interval shrinks with √n, its centre shifts a little: a tenth more than named must do.
    assert drop(-(-needed * 11 // 10 // 1000) * 1000).outcome is Outcome.MET


def test_teacher_and_student_must_have_answered_the_same_number_of_inputs() -> None:
    verdict = only(measured(accuracy=Accuracy((1.0,))), "max_accuracy_drop_points", 1.0, Accuracy((1.0, 1.0)))
    assert verdict.outcome is Outcome.UNDECIDED
    assert "2 inputs and this model 1" in verdict.why
    assert only(measured(accuracy=Accuracy((1.0,))), "max_accuracy_drop_points", 1.0).outcome is Outcome.UNDECIDED


def test_the_exit_code_is_1_before_3_before_0() -> None:
    def verdict(outcome: Outcome) -> Verdict:
        return Verdict("max_size_mb", 1.0, None, None, outcome, "", "a test")

    met, missed, undecided = (verdict(outcome) for outcome in (Outcome.MET, Outcome.MISSED, Outcome.UNDECIDED))
    assert overall_exit_code([met, undecided, missed]) == 1
    assert overall_exit_code([met, undecided]) == 3
    assert overall_exit_code([met, met]) == 0
    assert overall_exit_code([]) == 0


def test_the_json_has_seven_keys_and_no_infinity() -> None:
    verdict = only(measured(pairs=Pairs((2.0,), (1.0,))), "min_speedup", 4.0)
    written = json.loads(json.dumps(verdict.as_json(), allow_nan=False))
    assert list(written) == ["limit", "bound", "measured", "interval", "verdict", "why", "origin"]
    assert written["verdict"] == "undecided"
    assert written["interval"] == [0.0, None]


def test_a_figure_that_is_not_a_number_is_never_met() -> None:
    verdict = judge(
        Limit("max_latency_ms", 5.0, "a test"), measured=math.nan, interval=Interval(math.nan, math.nan),
        conditions=HERE, samples=1,
    )  # fmt: skip
    assert verdict.outcome is Outcome.UNDECIDED
    json.dumps(verdict.as_json(), allow_nan=False)
