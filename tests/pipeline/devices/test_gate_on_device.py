"""`compress gate` over a device: a stand-in Jetson, whose times are made up, and this machine, an x86 that is reached.

How long a gate takes is by a clock that ticks whenever it is read, so that the number of processes is known.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.commands.gate_command import gate
from pipeline.errors import BundleRefused, UsageRefused
from pipeline.gate.further_lines import quantile_line, size_line
from pipeline.gate.gate import Limits, Sampled, latency_line, sampled_until_decided
from pipeline.gate.gate_there import lines_there, remarks_there
from pipeline.gate.outcome import Finding, Gate, Line, only
from pipeline.gate.pair import Pair, pair_from, target_through
from pipeline.gate.run_gate import Settings, run_gate
from pipeline.integrity import digests_of, sums_text
from targets.engines.block_there import BlocksThere
from targets.engines.elsewhere import TENSORRT, Elsewhere, Timed
from targets.engines.fresh_processes import Sitting
from targets.errors import DeviceChanged, DeviceLost, DeviceMissing, EngineFailed
from targets.find import target_named
from targets.paired_ratio import Looks
from targets.reach.device import Device
from targets.target import Target

WIDE = 64
ONCE = Looks(at=(1.0,), parts=(1.0,), error_rate=0.3)  # one look, for which two processes do: 1/2² < 0.3
QUICK = {"warm_up_ms": 0, "seconds": 0.02, "processes": 2}
TEN_PERCENT = {"median_ms": {"int8": 0.8, "fp16": 1.2, "fp32": 1.32}}  # what the stand-in says of its engines
Jetson = Callable[..., Any]


def network(path: Path, *, layers: int) -> Path:
    """So many dense layers."""
    weights = np.random.default_rng(0).normal(size=(WIDE, WIDE)).astype(np.float32) / 8
    names = ["input", *(f"hidden{n}" for n in range(1, layers)), "output"]
    nodes = [helper.make_node("Gemm", [names[n], "w"], [names[n + 1]], name=f"layer{n}") for n in range(layers)]
    doors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDE]) for name in ("input", "output")]
    graph = helper.make_graph(nodes, "dense", doors[:1], doors[1:], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def bundle_in(folder: Path, *, target: Target, layers: int = 1, right: int = 90, **settings: Any) -> Path:
    """The least that is a bundle, its engine built on the device; `right` of 100 stored answers are."""
    folder.mkdir()
    network(folder / "model.onnx", layers=layers)
    engine = target.engine
    file = folder / f"engine{engine.suffix}"
    if isinstance(engine, Elsewhere):
        engine = replace(engine, settings={**engine.settings, **settings})
        engine.build(folder / "model.onnx", file, threads=1)
        runtime = engine.runtime
    else:
        runtime = "tensorrt 10.3.0"
        file.write_bytes(b"an engine that nobody opens here" * layers)
    inputs = np.random.default_rng(1).normal(size=(4, WIDE)).astype(np.float32)
    np.savez(folder / "examples.npz", inputs=inputs, outputs=np.zeros((4, WIDE), np.float32))
    for name in ("run.py", "labels.json"):
        (folder / name).write_text("0\n")
    manifest = {
        "schema": 1, "target": {"name": target.name}, "engine": {"file": file.name, "runtime": runtime, "threads": 1},
        "examples": "examples.npz", "labels": "labels.json", "input": {"shape": ["N", WIDE], "dtype": "float32"},
        "data": {"digest": "that of these tests"},
        "stages": [{"measurement": {"accuracy": {"scores": [1.0] * right + [0.0] * (100 - right)}}}],
        "files": digests_of(folder),
    }  # fmt: skip
    text = json.dumps(manifest)
    (folder / "manifest.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "SHA256SUMS").write_text(sums_text(manifest["files"], manifest=digest))  # type: ignore[arg-type]
    return folder


@pytest.fixture(autouse=True)
def _ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a second whenever a gate reads it, and one process for each engine's memory."""
    seconds = iter(range(1_000_000))
    monkeypatch.setattr("pipeline.gate.gate.now_s", lambda: float(next(seconds)))
    monkeypatch.setattr("pipeline.gate.further_lines.MEMORY_RUNS", 1)


@pytest.fixture
def board(jetson_in: Jetson, tmp_path: Path) -> tuple[Any, Device]:
    """A stand-in Jetson whose strongly typed engines take 10 % longer."""
    found: tuple[Any, Device] = jetson_in(tmp_path / "jetson", **TEN_PERCENT)
    return found


@pytest.fixture(scope="module")
def plans(jetson_in: Jetson, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles whose engines such a board has built: weakly typed, and strongly, which takes 10 % longer."""
    folder = tmp_path_factory.mktemp("plans")
    _, device = jetson_in(folder / "jetson")
    built = target_named("jetson-orin-nano").through(device, settings={"mode": "float"})
    return {
        typed: bundle_in(folder / typed, target=built, typed=typed, right=right)
        for typed, right in (("weak", 90), ("strong", 89))
    }


def gated(pair: Pair, *, seconds: float, **limits: float) -> Gate:
    """seconds: of the ticking clock, two or three per process"""
    return run_gate(pair, Settings(Limits(**limits), max_seconds=seconds, looks=ONCE))


@pytest.fixture
def judged(board: tuple[Any, Device], plans: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Gate]:
    """A gate of two plans on the board; memory is left out, for each process of it takes as long as a block."""

    def judge(candidate: str = "strong", *, settings: Mapping[str, Any] | None = None, **limits: float) -> Gate:
        target = target_through(board[1], plans["weak"], settings={**QUICK, **(settings or {})})
        monkeypatch.setattr("pipeline.gate.run_gate.memory_line", lambda pair, **_: size_line(pair, limit=None))
        return gated(pair_from(plans["weak"], plans[candidate], target=target), seconds=3, **limits)

    return judge


def test_a_plan_that_takes_10_percent_longer_on_the_board_has_regressed(
    board: tuple[Any, Device], judged: Callable[..., Gate]
) -> None:
    found = judged("strong")
    latency, compute = only(found.lines, "latency"), only(found.lines, "compute time")
    assert latency.finding is Finding.REGRESSED
    assert found.exit_code() == 1
    # the stand-in's times vary by 0.4 % and are 15 in each process, so that 1 % is far more than chance
    assert latency.change == pytest.approx(1.1, abs=0.01)
    assert compute.change == pytest.approx(1.1, abs=0.01)
    assert compute.baseline == pytest.approx(1.2, rel=0.01)
    assert latency.baseline == pytest.approx(1.2 * 1.03, rel=0.01)  # with 3 % for transfers, as it is made up
    assert compute.finding is Finding.REPORTED
    assert found.device == "the stand-in Jetson"
    assert len(found.process_ratios) == 2
    state = found.conditions["device"]
    assert state["blocks"] == 1
    assert state["before"]["power_mode"]["name"] == state["after"]["power_mode"]["name"] == "15W"
    assert state["before"]["temperatures_c"]["gpu-thermal"] == 46.7
    assert found.conditions["on_target"]
    timed = [line for line in board[0].commands() if "--exportTimes" in line]
    assert len(timed) == 2 * 2  # processes, engines; transfers and kernels in one run
    assert not any("--noDataTransfers" in line for line in timed)
    json.dumps(found.as_json(), allow_nan=False)


def test_2_plans_that_take_equally_long_are_fine_with_clocks_locked_meanwhile_and_put_back(
    board: tuple[Any, Device], judged: Callable[..., Gate]
) -> None:
    clocks = board[0].clock_texts()
    found = judged("weak", settings={"lock_clocks": True, "power_mode": "25W"}, accuracy_points=5)
    assert only(found.lines, "latency").finding is Finding.FINE
    assert only(found.lines, "latency").change == pytest.approx(1.0, abs=0.01)
    assert found.conditions["device"]["before"]["power_mode"]["name"] == "25W"
    assert found.conditions["device"]["clocks"]["locked"]
    assert board[0].clock_texts() == clocks
    assert board[0].changes().count("jetson_clocks") == 1
    assert found.exit_code() == 0
    assert "Both engine files are the same" in found.remarks[0]


def test_a_board_that_throttles_in_each_of_3_blocks_leaves_the_gate_undecided_with_the_counter_named(
    board: tuple[Any, Device], judged: Callable[..., Gate]
) -> None:
    board[0].change_trtexec(counts=str(board[0].root / "sys/class/hwmon/hwmon3/oc1_event_cnt"))
    found = judged(settings={"processes": 1}, p99=1.1)
    for name in ("latency", "p99"):
        line = only(found.lines, name)
        assert line.finding is Finding.UNDECIDED
        assert line.change is None
        assert "in 3 blocks running: the device throttled: over-current events oc1 rose by 2." in line.why
    assert found.exit_code() == 3
    assert found.conditions["device"]["blocks"] == 0
    assert len(found.conditions["device"]["repeated"]) == 3
    assert only(found.lines, "accuracy").change == pytest.approx(1.0)  # 90 and 89 of 100


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
        lambda seed: ready.pop(0), judged_lines, clock="wall_ms", max_seconds=1, looks=ONCE, seed=0,
        waiting=lambda: len(ready),
    )  # fmt: skip
    assert len(found.processes) == 3


def test_of_an_emulated_board_0_times_are_asked_for_and_the_exit_code_is_3(orphans: Callable[..., Pair]) -> None:
    pair = orphans(larger=1)
    reached = replace(pair.target, device=Told(emulated={"yes": True, "why": "test"}), is_here=lambda: True)
    sides = [replace(side, engine=Elsewhere(Told(tensorrt="10.3.0"), TENSORRT)) for side in pair.sides]
    found = gated(Pair(sides[0], sides[1], reached, pair.inputs, 1), seconds=3, memory=1.1)
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


@pytest.fixture
def orphans(tmp_path: Path) -> Callable[..., Pair]:
    """Two bundles of a Jetson that nobody gave; the candidate's engine file is so many times as large."""

    def make(*, larger: int) -> Pair:
        nano = target_named("jetson-orin-nano")
        base = bundle_in(tmp_path / "base", target=nano)
        return pair_from(base, bundle_in(tmp_path / "cand", target=nano, layers=larger, right=60))

    return make


def test_without_its_device_the_latency_is_undecided_and_2_other_lines_are_judged(
    orphans: Callable[..., Pair],
) -> None:
    found = gated(orphans(larger=1), seconds=3, size=1.1, p99=1.1, memory=1.1)
    assert [(line.name, line.finding.value) for line in found.lines] == [
        ("latency", "undecided"), ("p99", "undecided"), ("peak memory", "undecided"), ("file size", "fine"),
        ("accuracy", "reported"),
    ]  # fmt: skip
    latency = found.lines[0]
    assert latency.why == (
        "not measured: this machine is no jetson-orin-nano. Give the device itself: --device ADDRESS."
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
    assert gated(pair, seconds=3, size=1.1).exit_code() == 1
    assert gated(pair, seconds=3, accuracy_points=5).exit_code() == 1
    asked = run_gate(pair, Settings(Limits(accuracy_points=5), evaluation=tmp_path / "e.npz", looks=ONCE))
    assert only(asked.lines, "accuracy").finding is Finding.UNDECIDED
    assert "--device ADDRESS" in only(asked.lines, "accuracy").why


def test_on_an_x86_that_is_reached_40_layers_are_slower_than_1_by_the_time_of_day(here: Device, tmp_path: Path) -> None:
    target = target_named("x86-cpu").through(here, settings={"seconds": 0.02, "processes": 2})
    base = bundle_in(tmp_path / "base", target=target)
    cand = bundle_in(tmp_path / "cand", target=target, layers=40)
    evaluation = tmp_path / "evaluation.npz"
    np.savez(evaluation, inputs=np.ones((6, WIDE), np.float32), labels=np.arange(6))
    pair = pair_from(base, cand, target=target)
    found = run_gate(pair, Settings(Limits(), max_seconds=3, looks=ONCE, evaluation=evaluation))
    latency = only(found.lines, "latency")
    assert latency.finding is Finding.REGRESSED
    assert "by time of day" in latency.why
    assert found.conditions["machine"] == here.facts()["hostname"]
    assert len(found.process_ratios) == 2
    assert only(found.lines, "p50").change is not None
    peak = only(found.lines, "peak memory")
    assert peak.baseline is not None
    assert peak.baseline > 1
    assert "compute time" not in {line.name for line in found.lines}  # a processor has no clock of kernels
    assert "6 inputs of evaluation.npz" in only(found.lines, "accuracy").why


def test_1_limit_on_the_load_time_is_undecided_on_a_device_which_does_not_tell_it(tmp_path: Path) -> None:
    blocks = BlocksThere(Elsewhere(Told(), TENSORRT), (tmp_path, tmp_path), np.zeros((1, 1)), 1)
    found = Sampled("wall_ms", [sitting(1.0)] * 5)
    lines = lines_there(blocks, found, Limits(load=1.1), error_rate=0.05, seed=0)
    assert [(line.name, line.finding.value) for line in lines] == [
        ("latency", "fine"), ("p50", "reported"), ("p99", "reported"), ("load time", "undecided"),
    ]  # fmt: skip
    assert "--max-load-regression" in lines[-1].why


def test_a_device_of_another_kind_and_1_engine_of_another_runtime_are_refused_by_name(
    here: Device, tmp_path: Path
) -> None:
    nano = target_named("jetson-orin-nano")
    base = bundle_in(tmp_path / "base", target=nano)
    with pytest.raises(DeviceMissing, match="this machine is not a jetson-orin-nano"):
        target_through(here, base, settings={})
    there = target_named("x86-cpu").through(here)
    other = bundle_in(tmp_path / "other", target=replace(nano, name="x86-cpu"))
    with pytest.raises(
        BundleRefused, match=r"of tensorrt 10\.3\.0, and this machine is asked for those of onnxruntime"
    ):
        pair_from(other, other, target=there)


@pytest.mark.parametrize("flag", [["--lock-clocks"], ["--power-mode", "25W"]])
def test_2_flags_of_a_device_without_one_are_refused(flag: list[str], tmp_path: Path) -> None:
    asked = ["--baseline", str(tmp_path), "--candidate", str(tmp_path), *flag]
    with pytest.raises(UsageRefused, match=f"{flag[0]} goes with a device that is reached"):
        gate(asked, config=tmp_path / "devices.ini")
