"""`compress gate` over a device: a stand-in Jetson, whose times are made up, and this machine, an x86 that is reached.

How long a gate takes is by a clock that ticks whenever it is read, so that the number of processes is known.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.commands.gate_command import gate
from pipeline.errors import BundleRefused, UsageRefused
from pipeline.gate.further_lines import size_line
from pipeline.gate.gate import Limits
from pipeline.gate.outcome import Finding, Gate, only
from pipeline.gate.pair import pair_from, target_through
from pipeline.gate.run_gate import Settings, run_gate
from targets.errors import DeviceMissing
from targets.find import target_named
from targets.paired_ratio import Looks
from targets.reach.device import Device

WIDE = 64  # as in conftest.py
ONCE = Looks(at=(1.0,), parts=(1.0,), error_rate=0.3)  # one look, for which two processes do: 1/2² < 0.3
QUICK = {"warm_up_ms": 0, "seconds": 0.02, "processes": 2}
TEN_PERCENT = {"median_ms": {"int8": 0.8, "fp16": 1.2, "fp32": 1.32}}  # what the stand-in says of its engines
Jetson = Callable[..., Any]
Bundle = Callable[..., Path]


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
def plans(jetson_in: Jetson, bundle_in: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles whose engines such a board has built: weakly typed, and strongly, which takes 10 % longer."""
    folder = tmp_path_factory.mktemp("plans")
    _, device = jetson_in(folder / "jetson")
    built = target_named("jetson-orin-nano").through(device, settings={"mode": "float"})
    return {
        typed: bundle_in(folder / typed, target=built, typed=typed, right=right)
        for typed, right in (("weak", 90), ("strong", 89))
    }


@pytest.fixture
def judged(board: tuple[Any, Device], plans: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Gate]:
    """A gate of two plans on the board; memory is left out, for each process of it takes as long as a block."""

    def judge(candidate: str = "strong", *, settings: Mapping[str, Any] | None = None, **limits: float) -> Gate:
        target = target_through(
            plans["weak"], plans[candidate], device=board[1], settings={**QUICK, **(settings or {})}
        )
        monkeypatch.setattr("pipeline.gate.run_gate.memory_line", lambda pair, **_: size_line(pair, limit=None))
        pair = pair_from(plans["weak"], plans[candidate], target=target)
        return run_gate(pair, Settings(Limits(**limits), max_seconds=3, looks=ONCE))

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


def test_on_an_x86_that_is_reached_40_layers_are_slower_than_1_by_the_time_of_day(
    here: Device, bundle_in: Bundle, tmp_path: Path
) -> None:
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


def test_a_device_of_another_kind_and_1_engine_of_another_runtime_are_refused_by_name(
    here: Device, bundle_in: Bundle, tmp_path: Path
) -> None:
    nano = target_named("jetson-orin-nano")
    base = bundle_in(tmp_path / "base", target=nano)
    with pytest.raises(DeviceMissing, match="this machine is not a jetson-orin-nano"):
        target_through(base, base, device=here, settings={})
    there = target_named("x86-cpu").through(here)
    other = bundle_in(tmp_path / "other", target=replace(nano, name="x86-cpu"))
    with pytest.raises(BundleRefused, match=r"the target of .* is jetson-orin-nano, and of .* x86-cpu"):
        target_through(base, other, device=here, settings={})
    with pytest.raises(
        BundleRefused, match=r"of tensorrt 10\.3\.0, and this machine is asked for those of onnxruntime"
    ):
        pair_from(other, other, target=there)


@pytest.mark.parametrize("flag", [["--lock-clocks"], ["--power-mode", "25W"]])
def test_2_flags_of_a_device_without_one_are_refused(flag: list[str], tmp_path: Path) -> None:
    asked = ["--baseline", str(tmp_path), "--candidate", str(tmp_path), *flag]
    with pytest.raises(UsageRefused, match=f"{flag[0]} goes with a device that is reached"):
        gate(asked, config=tmp_path / "devices.ini")
