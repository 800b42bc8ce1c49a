"""Locking clocks on a stand-in Jetson: what is asked for, and that all of it is put back."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from targets.on_device.clocks import NOTE, STORE, kept_folder, left_locked, locked_clocks
from targets.on_device.power import state

REPOSITORY = Path(__file__).resolve().parents[3]
HOLDS = """
import sys, time
from pathlib import Path
from targets.on_device.clocks import locked_clocks
with locked_clocks(wanted=True, keep=Path(sys.argv[1]), mode="25W", root=sys.argv[2]) as report:
    print(report["locked"], flush=True)
    time.sleep(60)
"""


@pytest.fixture
def device(stand_in_jetson: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    made = stand_in_jetson(mode="15W")
    monkeypatch.setenv("PATH", made.search_path)
    return made


def test_4_changes_are_made_in_order_and_2_take_them_back(device: Any, tmp_path: Path) -> None:
    before, keep = device.clock_texts(), tmp_path / "kept"
    with locked_clocks(wanted=True, keep=keep, mode="25W", root=str(device.root)) as report:
        assert (report["locked"], report["mode"], report["tool"]) == (True, "25W", "jetson_clocks")
        during = state(root=str(device.root))
        assert during["clocks"]["gpu"] == {"now_hz": 918000000, "lowest_hz": 918000000, "highest_hz": 918000000}
        assert during["power_mode"] == {"name": "25W", "id": 1}
    store = str(keep / STORE)
    assert device.changes() == [
        f"jetson_clocks --store {store}", "nvpmodel -m 1", "jetson_clocks",
        "nvpmodel -m 0", f"jetson_clocks --restore {store}",
    ]  # fmt: skip
    assert report["restored"] is True
    assert (device.mode(), device.clock_texts()) == ("15W", before)
    assert list(keep.iterdir()) == []


def test_clocks_that_somebody_had_locked_in_25w_are_locked_in_25w_again(device: Any, tmp_path: Path) -> None:
    for command in (["nvpmodel", "-m", "1"], ["jetson_clocks"]):
        subprocess.run(["sudo", "-n", *command], check=True, capture_output=True)
    before = device.clock_texts()
    with locked_clocks(wanted=True, keep=tmp_path / "kept", mode="15W", root=str(device.root)):
        assert device.mode() == "15W"
    assert (device.mode(), device.clock_texts()) == ("25W", before)


def test_an_error_in_the_middle_puts_back_all_the_same_in_1_go(device: Any, tmp_path: Path) -> None:
    before = device.clock_texts()
    with (
        pytest.raises(RuntimeError, match="the build failed"),
        locked_clocks(wanted=True, keep=tmp_path / "kept", mode="MAXN_SUPER", root=str(device.root)),
    ):
        raise RuntimeError("the build failed")
    assert (device.mode(), device.clock_texts()) == ("15W", before)


def test_without_a_wish_0_commands_are_given(device: Any, tmp_path: Path) -> None:
    with locked_clocks(wanted=False, keep=tmp_path / "kept", root=str(device.root)) as report:
        assert report == {"locked": False, "why": "not asked for", "tool": None, "mode": None}
    assert device.commands() == []


def test_a_sudo_that_wants_a_password_is_told_in_1_event(
    device: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device.change(sudo="password")
    before = device.clock_texts()
    with locked_clocks(wanted=True, keep=tmp_path / "kept", mode="25W", root=str(device.root)) as report:
        assert report["locked"] is False
        assert "asks for a password" in report["why"]
    (event,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert event["event"] == "says" and "asks for a password" in event["text"]
    assert (device.mode(), device.clock_texts()) == ("15W", before)


def test_a_mode_that_needs_a_reboot_is_answered_with_1_no(device: Any, tmp_path: Path) -> None:
    device.change(reboot_modes=["MAXN_SUPER"])
    with locked_clocks(wanted=True, keep=tmp_path / "kept", mode="MAXN_SUPER", root=str(device.root)) as report:
        assert (report["locked"], report["mode"]) == (True, "15W")
        assert "MAXN_SUPER needs a restart" in report["why"]
    assert "(asked for a reboot, answered no)" in device.commands()
    assert "REBOOT" not in device.commands()


def test_a_mode_this_module_lacks_is_refused_with_the_3_it_has(device: Any, tmp_path: Path) -> None:
    with locked_clocks(wanted=True, keep=tmp_path / "kept", mode="50W", root=str(device.root)) as report:
        assert report["locked"] is False
        assert all(mode in report["why"] for mode in ("15W", "25W", "MAXN_SUPER"))
    assert device.changes() == []


def test_a_failure_after_the_1st_change_is_put_back_at_once(device: Any, tmp_path: Path) -> None:
    before = device.clock_texts()
    device.change(fails="jetson_clocks")
    with locked_clocks(wanted=True, keep=tmp_path / "kept", mode="25W", root=str(device.root)) as report:
        assert (report["locked"], report["restored"]) == (False, True)
        assert (device.mode(), device.clock_texts()) == ("15W", before)


def test_a_pc_without_any_of_2_tools_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with locked_clocks(wanted=True, keep=tmp_path / "kept", root=str(tmp_path)) as report:
        assert (report["locked"], "jetson_clocks" in report["why"], "nvidia-smi" in report["why"]) == (
            False,
            True,
            True,
        )


def holding(device: Any, keep: Path) -> "subprocess.Popen[str]":
    """A process that holds the clocks locked."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(keep), str(device.root)],
        env={"PATH": device.search_path, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_each_of_3_signals_to_the_whole_group_ends_it_and_puts_back(
    device: Any, tmp_path: Path, number: signal.Signals
) -> None:
    before = device.clock_texts()
    process = holding(device, tmp_path / "kept")
    assert device.mode() == "25W"
    os.killpg(process.pid, number)
    assert process.wait(60) != 0
    assert (device.mode(), device.clock_texts()) == ("15W", before)


def test_after_a_kill_the_next_job_puts_back_first_and_says_so_1_time(
    device: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, keep = device.clock_texts(), tmp_path / "kept"
    process = holding(device, keep)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    assert (device.mode(), left_locked(keep)) == ("25W", True)
    with locked_clocks(wanted=False, keep=keep, root=str(device.root)):
        assert (device.mode(), device.clock_texts()) == ("15W", before)
    assert "killed while it held the clocks" in capsys.readouterr().out
    assert not (keep / NOTE).exists()


def test_what_1_running_job_holds_is_left_alone_by_another(device: Any, tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    process = holding(device, keep)
    assert not left_locked(keep)
    for wanted in (False, True):
        with locked_clocks(wanted=wanted, keep=keep, mode="15W", root=str(device.root)) as report:
            assert report["locked"] is False
            assert ("another job holds them" in report["why"]) is wanted
        assert device.mode() == "25W"
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(60)
    assert device.mode() == "15W"


def test_a_failed_putting_back_is_told_and_its_1_note_stays(
    device: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = tmp_path / "kept"
    with locked_clocks(wanted=True, keep=keep, mode="25W", root=str(device.root)) as report:
        device.change(sudo="password")
    assert report["restored"] is False
    assert (keep / NOTE).exists()
    assert "could not be put back" in capsys.readouterr().out
    device.change(sudo="allowed")
    note = json.loads((keep / NOTE).read_text())
    (keep / NOTE).write_text(json.dumps({**note, "began": "1"}))  # this process still runs; as if it had ended
    with locked_clocks(wanted=False, keep=keep, root=str(device.root)):
        assert device.mode() == "15W"


def test_the_note_lies_beside_the_jobs_and_not_in_1_of_them(tmp_path: Path) -> None:
    job = tmp_path / "kept" / "jobs" / "abc"
    job.mkdir(parents=True)
    (tmp_path / "kept" / "blobs").mkdir()
    assert kept_folder(job) == tmp_path / "kept"


def test_the_state_of_a_stand_in_has_8_clocks_3_temperatures_and_2_rails(device: Any) -> None:
    found = state(root=str(device.root))
    assert json.loads(json.dumps(found)) == found
    assert sorted(found["clocks"]) == ["cpu0", "cpu1", "cpu2", "cpu3", "cpu4", "cpu5", "emc", "gpu"]
    assert found["clocks"]["cpu0"]["highest_hz"] == 1_497_600_000
    assert found["temperatures_c"] == {"cpu-thermal": 46.0, "gpu-thermal": 46.7, "tj-thermal": 47.0}  # cv0 is off
    assert found["rails_w"] == {"VDD_IN": 5.04, "VDD_CPU_GPU_CV": 1.008}
    assert found["throttling"] == {"over-current events oc1": 0, "cooling by devfreq-17000000.gpu": 0}
    assert any(line.startswith("GPU MinFreq=306000000") for line in found["jetson_clocks"])


def test_the_clock_of_l4t_35_is_found_at_its_1_other_place(tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/17000000.ga10b/devfreq/17000000.ga10b"
    folder.mkdir(parents=True)
    for name, value in (("cur_freq", 3), ("min_freq", 1), ("max_freq", 5)):
        (folder / name).write_text(f"{value}\n")
    assert state(root=str(tmp_path))["clocks"]["gpu"] == {"now_hz": 3, "lowest_hz": 1, "highest_hz": 5}


def test_a_note_that_cannot_be_written_means_0_changes(device: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder can be made below a file")
    keep = tmp_path / "file" / "kept"
    assert not left_locked(keep)
    with locked_clocks(wanted=True, keep=keep, mode="25W", root=str(device.root)) as report:
        assert (report["locked"], "cannot be made" in report["why"]) == (False, True)
    assert device.changes() == []
