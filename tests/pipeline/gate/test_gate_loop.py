"""The loop of the gate, on machines whose times are drawn: when it looks, when it stops, what it says."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pipeline.gate.gate import Limits, Measure, Sampled, decided, latency_line, log_ratio_of, sampled_until_decided
from pipeline.gate.outcome import Finding, Gate, Line, finding_of, only, percent
from targets.engines.fresh_processes import Sitting
from targets.errors import EngineFailed
from targets.paired_ratio import Looks


class Clock:
    """A clock that a process moves on by a second."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def machine(clock: Clock, *, ratio: float, noise: float = 0.005, seed: int = 1) -> Measure:
    """A process takes a second, and finds this ratio but for noise."""
    draw = np.random.default_rng(seed)

    def measure(_: int) -> Sequence[Sitting]:
        clock.now_s += 1
        times = ((2.0,), (2.0 * ratio * math.exp(draw.normal(0, noise)),))
        return (Sitting((1.0, 1.0), times, times, 1),)

    return measure


def judge(found: Sampled, error_rate: float) -> tuple[Line, ...]:
    return (latency_line(found, limit=1.02, error_rate=error_rate),)


def gated(measure: Measure, clock: Clock, *, seconds: float = 60) -> tuple[Sampled, Line]:
    found, lines = sampled_until_decided(
        measure, judge, clock="cpu_ms", max_seconds=seconds, looks=Looks(), seed=0, now=clock
    )
    return found, lines[0]


def test_equal_engines_are_fine_at_the_first_of_4_looks() -> None:
    clock = Clock()
    found, line = gated(machine(clock, ratio=1.0), clock)
    assert line.finding is Finding.FINE
    assert (found.looks, len(found.processes)) == (1, 18)  # three tenths of 60 s


def test_an_engine_that_is_5_percent_slower_has_regressed_at_the_first_look() -> None:
    clock = Clock()
    found, line = gated(machine(clock, ratio=1.05), clock)
    assert line.finding is Finding.REGRESSED and found.looks == 1
    assert line.low is not None and line.low > 1.02


def test_an_engine_at_the_limit_stays_undecided_after_60_processes_and_4_looks() -> None:
    clock = Clock()
    found, line = gated(machine(clock, ratio=1.02), clock)
    assert line.finding is Finding.UNDECIDED
    assert (found.looks, len(found.processes)) == (4, 60)


def test_8_seconds_are_too_few_for_an_interval_and_undecided() -> None:
    clock = Clock()
    found, line = gated(machine(clock, ratio=1.5), clock, seconds=8)
    assert line.finding is Finding.UNDECIDED and line.high is None
    assert "too few processes" in line.why and len(found.processes) == 8


def test_engines_at_the_limit_are_called_regressed_in_at_most_1_of_100_gates() -> None:
    wrong, gates = 0, 200
    for seed in range(gates):
        clock = Clock()
        _, line = gated(machine(clock, ratio=1.02, noise=0.01, seed=seed), clock)
        wrong += line.finding is not Finding.UNDECIDED
    # Both ends are allowed 1 %; three standard errors of 200 gates.
    assert wrong / gates <= 0.02 + 3 * math.sqrt(0.02 * 0.98 / gates)


def test_a_process_that_fails_once_is_started_again_and_twice_ends_the_gate_with_what_was_found() -> None:
    clock, calls = Clock(), []
    sound = machine(clock, ratio=1.0)

    def measure(seed: int, *, often: int) -> Sequence[Sitting]:
        calls.append(seed)
        if seed == 3 and calls.count(3) <= often:
            raise EngineFailed("The engine v2/engine.onnx fails while it is timed: no memory.")
        return sound(seed)

    assert gated(lambda seed: measure(seed, often=1), clock)[1].finding is Finding.FINE
    calls.clear()
    with pytest.raises(EngineFailed, match=r"no memory. Before that 3 processes had found [+-]\d\.\d\d %\."):
        gated(lambda seed: measure(seed, often=9), clock)


def test_the_time_of_a_process_is_the_mean_of_its_2_sittings() -> None:
    sittings = [Sitting((1.0, 1.0), ((1.0,), (ratio,)), ((1.0,), (1.0,)), 1) for ratio in (1.02, 1.06)]
    found = Sampled("cpu_ms")
    found.add(sittings)
    assert found.log_ratios == [pytest.approx((math.log(1.02) + math.log(1.06)) / 2)]
    assert log_ratio_of(sittings, "wall_ms") == 0.0


@pytest.mark.parametrize(
    ("low", "high", "finding"),
    [(1.021, 1.03, Finding.REGRESSED), (0.9, 1.02, Finding.FINE), (1.02, 1.03, Finding.UNDECIDED),
     (1.0, 1.03, Finding.UNDECIDED), (None, 1.01, Finding.FINE), (None, None, Finding.UNDECIDED)],
)  # fmt: skip
def test_against_a_limit_of_2_percent_an_interval_is(low: float | None, high: float | None, finding: Finding) -> None:
    assert finding_of(low, high, limit=1.02) is finding
    assert finding_of(low, high, limit=None) is Finding.REPORTED


def line(name: str, finding: Finding) -> Line:
    return Line(name, "ms", 1.0, 1.0, "ratio", 1.0, 1.0, 1.0, 1.02, finding, "")


def test_1_regressed_line_of_3_makes_the_gate_exit_with_1_and_ends_the_sampling() -> None:
    lines = (
        line("latency", Finding.FINE),
        line("p99", Finding.UNDECIDED),
        line("load time", Finding.REGRESSED),
    )
    gate = Gate("v1", "v2", "x86-cpu", None, lines)
    assert gate.finding is Finding.REGRESSED and gate.exit_code(undecided="pass") == 1
    assert decided(lines) and not decided(lines[:2]) and decided(lines[:1])


def test_an_undecided_gate_exits_with_3_or_with_0_or_1_as_asked() -> None:
    gate = Gate("v1", "v2", "x86-cpu", None, (line("latency", Finding.UNDECIDED), line("p50", Finding.REPORTED)))
    assert [gate.exit_code(undecided=word) for word in ("undecided", "pass", "fail")] == [3, 0, 1]
    fine = replace(gate, lines=(line("latency", Finding.FINE),))
    assert [fine.exit_code(undecided=word) for word in ("undecided", "pass", "fail")] == [0, 0, 0]


def test_a_gate_as_json_has_every_line_and_null_for_what_is_infinite() -> None:
    gate = Gate("v1", "v2", "x86-cpu", None, (line("latency", Finding.FINE),), smallest_seen=math.inf)
    told = gate.as_json()
    assert (told["finding"], told["smallest_seen"], told["lines"][0]["finding"]) == ("fine", None, "fine")


def test_percent_and_only_read_as_a_person_writes() -> None:
    assert percent(1.0312) == "+3.12 %" and percent(0.995) == "-0.50 %"
    assert only((line("p50", Finding.FINE), line("p99", Finding.FINE)), "p99").name == "p99"
    assert Limits().latency == 1.02
