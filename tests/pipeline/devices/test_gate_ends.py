"""How a gate over a device ends that has little to go by: it changes, goes away, is emulated or was not given."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.gate.further_lines import quantile_line
from pipeline.gate.gate import Limits, Sampled, latency_line, sampled_until_decided
from pipeline.gate.gate_there import lines_there, remarks_there
from pipeline.gate.outcome import Finding, Gate, Line, only
from pipeline.gate.pair import Pair, pair_from
from pipeline.gate.run_gate import Settings, run_gate
from targets.engines.block_there import BlocksThere
from targets.engines.elsewhere import TENSORRT, Elsewhere, Timed
from targets.engines.fresh_processes import Sitting
from targets.errors import DeviceChanged, DeviceLost, EngineFailed
from targets.find import target_named
from targets.paired_ratio import Looks

ONCE = Looks(at=(1.0,), parts=(1.0,), error_rate=0.3)  # one look, for which two processes do: 1/2² < 0.3
Bundle = Callable[..., Path]


class Told:
    """A device that nobody asks for anything."""

    address = "ssh://told"

    def __init__(self, **facts: Any) -> None:
        self.told = facts

    def facts(self) -> dict[str, Any]:
        return self.told

    def job(
        self, what: str, job: Mapping[str, Any], *, files: Mapping[str, Path], fetch: Sequence[str] = (),
        into: Path | None = None, limit_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        raise AssertionError(what)


def gated(pair: Pair, **limits: float) -> Gate:
    return run_gate(pair, Settings(Limits(**limits), looks=ONCE))


def sitting(ratio: float) -> tuple[Sitting, ...]:
    """A process of 30 calls of each engine."""
    return (Sitting((math.nan, math.nan), ((), ()), ((1.0,) * 30, (ratio,) * 30), 3),)


def judged_lines(found: Sampled, error_rate: float) -> tuple[Line, ...]:
    """A latency that may grow by 2 %, and a p99 that nobody limits."""
    return (
        latency_line(found, limit=1.02, error_rate=error_rate),
        quantile_line("p99", 0.99, found, limit=None, error_rate=error_rate, seed=0),
    )


def sampled(*given: "float | Exception") -> tuple[Sampled, tuple[Line, ...]]:
    """Processes of these ratios, or what is raised in their place, for as long as there are any."""
    results = iter(given)

    def measure(seed: int) -> tuple[Sitting, ...]:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return sitting(result)

    return sampled_until_decided(measure, judged_lines, clock="wall_ms", max_seconds=1000, looks=ONCE, seed=0)


def test_a_device_that_changes_after_3_processes_leaves_what_they_measured_and_no_verdict() -> None:
    found, lines = sampled(1.1, 1.1, 1.1, DeviceChanged("The power mode changed from 15W to 25W."))
    assert found.stopped == "The power mode changed from 15W to 25W."
    assert lines[0].finding is Finding.UNDECIDED
    assert lines[0].change == pytest.approx(1.1)
    assert lines[0].why.startswith(
        "The power mode changed from 15W to 25W. Until then: by time of day, 3 fresh processes"
    )
    assert lines[1].finding is Finding.REPORTED
    assert [len(found.processes), found.looks] == [3, 0]


def test_a_device_that_goes_away_after_2_processes_is_said_with_what_they_had_found_and_is_not_asked_again() -> None:
    # the wait for it lies below: the third result is never asked for
    with pytest.raises(DeviceLost, match=r"^The link was lost\. Before that 2 processes had found \+10\.00 %\.$"):
        sampled(1.1, 1.1, DeviceLost("The link was lost."), 1.1)
    with pytest.raises(DeviceLost, match=r"^The link was lost\.$"):
        sampled(DeviceLost("The link was lost."), 1.1)


def test_an_engine_that_fails_once_is_given_a_2nd_process() -> None:
    with pytest.raises(EngineFailed, match=r"^for good Before that 2 processes had found \+10\.00 %\.$"):
        sampled(1.1, EngineFailed("once"), 1.1, EngineFailed("again"), EngineFailed("for good"))


def test_processes_that_have_ended_are_taken_although_time_is_over_3_of_them() -> None:
    ready = [sitting(1.0)] * 3
    found, _ = sampled_until_decided(
        lambda seed: ready.pop(0), judged_lines, clock="wall_ms", max_seconds=0, looks=ONCE, seed=0,
        waiting=lambda: len(ready),
    )  # fmt: skip
    assert len(found.processes) == 3


def test_of_an_emulated_board_0_times_are_asked_for_and_the_exit_code_is_3(orphans: Callable[..., Pair]) -> None:
    pair = orphans(larger=1)
    reached = replace(pair.target, device=Told(emulated={"yes": True, "why": "test"}), is_here=lambda: True)
    sides = [replace(side, engine=Elsewhere(Told(tensorrt="10.3.0"), TENSORRT)) for side in pair.sides]
    found = gated(Pair(sides[0], sides[1], reached, pair.inputs, 1), memory=1.1)
    for name in ("latency", "peak memory"):
        assert only(found.lines, name).finding is Finding.UNDECIDED
        assert "the processor of ssh://told is emulated" in only(found.lines, name).why
    assert found.exit_code() == 3
    assert found.smallest_seen is None
    assert not found.conditions["on_target"]


def test_what_the_reader_must_know_of_1_repeated_block_of_clocks_and_of_noise_is_remarked(tmp_path: Path) -> None:
    engine = Elsewhere(Told(), TENSORRT, {"lock_clocks": True})
    timed = Timed(((1.0,), (1.0,)), (None, None), 1, {"clocks": {"locked": False, "why": "sudo asks"}}, ("it varies.",))
    blocks = BlocksThere(engine, (tmp_path, tmp_path), np.zeros((1, 1)), 1, [timed], ["it throttled."])
    found = Sampled("wall_ms", [()], seconds=12.0, looks=1)
    assert remarks_there(blocks, found, looks=ONCE) == (
        "1 block was taken again, for the device changed: it throttled.",
        "The clocks are not as asked for: sudo asks",
        "1 block was unsteady within a process (it varies): that makes the interval wider, and shifts it nowhere.",
        # 1/2² < 0.3; twelve seconds each and half as much again, in tens
        "A verdict takes at least 2 processes, and 1 took 12 s: give --max-seconds 40.",
    )


@pytest.fixture
def orphans(bundle_in: Bundle, tmp_path: Path) -> Callable[..., Pair]:
    """Two bundles of a Jetson that nobody gave; the candidate's engine file is so many times as large."""

    def make(*, larger: int) -> Pair:
        nano = target_named("jetson-orin-nano")
        base = bundle_in(tmp_path / "base", target=nano)
        return pair_from(base, bundle_in(tmp_path / "cand", target=nano, layers=larger, right=60))

    return make


def test_without_its_device_the_latency_is_undecided_and_2_other_lines_are_judged(
    orphans: Callable[..., Pair],
) -> None:
    found = gated(orphans(larger=1), size=1.1, p99=1.1, memory=1.1)
    assert [(line.name, line.finding.value) for line in found.lines] == [
        ("latency", "undecided"), ("p99", "undecided"), ("peak memory", "undecided"), ("file size", "fine"),
        ("accuracy", "reported"),
    ]  # fmt: skip
    latency = found.lines[0]
    assert latency.why == (
        "not measured: no jetson-orin-nano was reached. Name the device that both engines are for: --device ADDRESS."
    )
    assert (latency.limit, latency.change, found.device, found.smallest_seen) == (1.02, None, None, None)
    assert only(found.lines, "accuracy").change == pytest.approx(30)  # 90 and 60 of 100
    assert not found.conditions["on_target"]
    assert found.exit_code() == 3
    json.dumps(found.as_json(), allow_nan=False)


def test_without_its_device_a_file_of_3_times_the_size_has_regressed_all_the_same(
    orphans: Callable[..., Pair], tmp_path: Path
) -> None:
    pair = orphans(larger=3)
    assert gated(pair, size=1.1).exit_code() == 1
    assert gated(pair, accuracy_points=5).exit_code() == 1
    asked = run_gate(pair, Settings(Limits(accuracy_points=5), evaluation=tmp_path / "e.npz", looks=ONCE))
    assert only(asked.lines, "accuracy").finding is Finding.UNDECIDED
    assert "--device ADDRESS" in only(asked.lines, "accuracy").why


def test_1_limit_on_the_load_time_is_undecided_on_a_device_which_does_not_tell_it(tmp_path: Path) -> None:
    blocks = BlocksThere(Elsewhere(Told(), TENSORRT), (tmp_path, tmp_path), np.zeros((1, 1)), 1)
    found = Sampled("wall_ms")
    for _ in range(5):
        found.add(sitting(1.0))
    lines = lines_there(blocks, found, Limits(load=1.1), error_rate=0.05, seed=0)
    assert [(line.name, line.finding.value) for line in lines] == [
        ("latency", "fine"), ("p50", "reported"), ("p99", "reported"), ("load time", "undecided"),
    ]  # fmt: skip
    assert "--max-load-regression" in lines[-1].why
