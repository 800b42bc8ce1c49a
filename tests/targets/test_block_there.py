"""Blocks of a gate on a device that is not there: it gives the results that the test names, one per job."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from targets.engines.block_there import REPEATS, BlocksThere, changes, sitting_from_times
from targets.engines.elsewhere import TENSORRT, Elsewhere
from targets.errors import DeviceChanged, DeviceLost, EngineFailed, TimesRefused
from targets.reach.device import NOTHING_LOST

QUIET: dict[str, Any] = {
    "power_mode": {"name": "25W", "id": 1},
    "clocks": {"gpu": {"now_hz": 918000000, "lowest_hz": 306000000, "highest_hz": 918000000}},
    "temperatures_c": {"cpu-thermal": 46.0, "gpu-thermal": 51.4},
    "throttling": {"over-current events oc1": 2},
}
HOT: dict[str, Any] = {**QUIET, "temperatures_c": {"gpu-thermal": 96.6}, "throttling": {"over-current events oc1": 5}}
OTHER_MODE: dict[str, Any] = {**QUIET, "power_mode": {"name": "15W", "id": 0}}


class Scripted:
    """A device that gives one result after the other, or fails with it; it keeps what it was asked."""

    address = "ssh://scripted"

    def __init__(self, *results: "dict[str, Any] | Exception", emulated: bool = False) -> None:
        self.results, self.emulated = list(results), emulated
        self.jobs: list[dict[str, Any]] = []

    def facts(self) -> dict[str, Any]:
        return {"tensorrt": "10.3.0", "emulated": self.emulated}

    def job(
        self, what: str, job: Mapping[str, Any], *, files: Mapping[str, Path], fetch: Sequence[str] = (),
        into: Path | None = None, limit_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        assert what == "measure"
        self.jobs.append(dict(job))
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


def block(before: dict[str, Any] = QUIET, after: dict[str, Any] = QUIET, **more: Any) -> dict[str, Any]:
    """What the device sends: three processes, the candidate twice as slow as the baseline."""
    runs = [
        {"engine": name, "process": process, "latency_ms": [ms + process] * 4, "compute_ms": [ms / 2] * 4}
        for process in range(3)
        for name, ms in (("1-engine.plan", 20.0), ("0-engine.plan", 10.0))
    ]
    return {"runs": runs, "before": before, "after": after, "clocks": {"locked": False}, "unstable": [], **more}


def blocks(device: Scripted, **settings: Any) -> BlocksThere:
    return BlocksThere(
        Elsewhere(device, TENSORRT, settings), (Path("a.plan"), Path("b.plan")), np.zeros((1, 4), np.float32), 1
    )


def test_3_processes_of_a_block_are_given_one_by_one_and_the_4th_takes_a_second_job() -> None:
    device = Scripted(block(), block())
    measure = blocks(device, power_mode="25W")
    first = [measure(seed) for seed in range(3)]
    # in each process four times of either engine, of which three make a turn
    assert [each[0].wall_ms for each in first] == [((10.0 + n,) * 3, (20.0 + n,) * 3) for n in range(3)]
    assert len(device.jobs) == 1
    assert measure.waiting() == 0
    measure(3)
    assert (len(device.jobs), measure.waiting()) == (2, 2)
    assert measure.compute_ms() == [(5.0, 10.0)] * 6
    settings = device.jobs[0]["settings"]
    assert (settings["power_mode"], settings["seed"], settings["processes"]) == ("25W", 0, 3)
    assert not {"samples", "iterations"} & set(settings)  # a block ends by the clock
    assert device.jobs[1]["settings"]["seed"] == 3


def test_1_block_that_throttled_is_thrown_away_and_taken_again_with_another_seed() -> None:
    device = Scripted(block(after=HOT), block())
    measure = blocks(device)
    measure(7)
    assert len(measure.blocks) == 1
    assert measure.blocks[0].state["after"] == QUIET
    assert measure.thrown == [
        "the device throttled: over-current events oc1 rose by 3. Its hottest sensor went from 51 to 97 °C."
    ]
    seeds = [job["settings"]["seed"] for job in device.jobs]
    assert seeds[0] == 7
    assert seeds[1] != 7
    assert measure.state()["repeated"] == measure.thrown


def test_the_3rd_changed_block_running_ends_it_with_the_reason_and_what_was_measured_is_kept() -> None:
    device = Scripted(block(), *[block(after=OTHER_MODE)] * (1 + REPEATS))
    measure = blocks(device)
    for seed in range(3):
        measure(seed)
    with pytest.raises(DeviceChanged) as caught:
        measure(3)
    said = str(caught.value)
    assert said.startswith("ssh://scripted did not stay as it was, in 3 blocks running: ")
    assert "the power mode changed from 25W to 15W." in said
    assert "--lock-clocks" in said
    assert len(said) <= 420
    assert len(measure.blocks) == 1
    assert len(device.jobs) == 4


def test_times_that_vary_by_6_percent_or_drift_by_3_are_no_reason_to_take_a_block_again() -> None:
    noise = ["0-engine.plan, process 0: the times vary by 6.0% of their mean, more than 2.5%.",
             "1-engine.plan, process 1: the second half is 3.0% slower than the first, more than 2.0%."]  # fmt: skip
    device = Scripted(block(unstable=noise))
    measure = blocks(device)
    measure(0)
    assert measure.thrown == []
    assert measure.blocks[0].unstable == tuple(noise)


def test_2_blocks_each_steady_in_a_mode_of_its_own_are_not_one_measurement() -> None:
    told = {"before": QUIET, "after": QUIET}
    assert changes(told, told) == []
    moved = changes(told, {"before": OTHER_MODE, "after": OTHER_MODE})
    assert moved == ["the power mode changed from 25W to 15W."]
    slower = {**QUIET, "clocks": {"gpu": {"now_hz": 612000000, "lowest_hz": 306000000, "highest_hz": 612000000}}}
    assert changes(told, {"before": slower, "after": slower}) == [
        "the highest clock of gpu changed from 918 to 612 MHz."
    ]
    # a counter that grew between two blocks, when nothing was timed, is nobody's fault
    assert changes(told, {"before": HOT, "after": HOT}) == []


def test_clocks_that_were_locked_in_block_1_must_be_in_block_2() -> None:
    held = {"before": {}, "after": {}, "clocks": {"locked": True, "why": "locked"}}
    loose = {"before": {}, "after": {}, "clocks": {"locked": False, "why": "sudo asks for a password"}}
    assert changes(held, held) == []
    assert changes(loose, loose) == []
    assert changes(held, loose) == [
        "the clocks were locked at first, and could not be any more: sudo asks for a password."
    ]


def test_of_8_and_5_times_each_gives_1_whole_turn_of_3_and_2_times_are_too_few() -> None:
    taken = sitting_from_times([list(range(8)), list(range(10, 15))])
    assert taken.wall_ms == ((0, 1, 2), (10, 11, 12))
    assert taken.timed == 3
    with pytest.raises(EngineFailed, match="2 times of an engine; at least 3 are needed"):
        sitting_from_times([[1.0, 2.0], [1.0, 2.0, 3.0]])


def test_the_sentence_on_1_lost_device_promises_nothing_that_a_gate_does_not_keep() -> None:
    lost = DeviceLost(f"me@orin went away in the middle of a job. {NOTHING_LOST}")
    with pytest.raises(DeviceLost) as caught:
        blocks(Scripted(lost))(0)
    assert str(caught.value) == (
        "me@orin went away in the middle of a job. A gate has to begin anew; both bundles are as they were."
    )


def test_an_emulated_device_is_asked_for_0_times() -> None:
    device = Scripted(block(), emulated=True)
    with pytest.raises(TimesRefused, match="emulated"):
        blocks(device)(0)
    assert device.jobs == []
