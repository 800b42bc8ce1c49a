"""The stand-in Jetson changes as a Jetson does, and writes down what was asked of it."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Jetson = Callable[..., Any]


def ask(device: Any, *command: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(device.folder / "bin" / command[0]), *command[1:]],
        env={"PATH": device.search_path}, input=answer, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_mode_1_is_set_by_root_alone_and_moves_the_highest_clock(stand_in_jetson: Jetson) -> None:
    device = stand_in_jetson(mode="15W")
    assert ask(device, "nvpmodel", "-q").stdout == "NV Power Mode: 15W\n0\n"
    assert ask(device, "nvpmodel", "-m", "1").returncode == 1
    assert ask(device, "sudo", "-n", "nvpmodel", "-m", "1").returncode == 0
    assert device.mode() == "25W"
    assert device.clock_texts()["sys/devices/platform/17000000.gpu/devfreq_dev/max_freq"] == "918000000\n"
    assert device.changes() == ["nvpmodel -m 1"]


def test_what_was_stored_is_restored_in_all_of_21_files(stand_in_jetson: Jetson, tmp_path: Path) -> None:
    device = stand_in_jetson()
    before = device.clock_texts()
    assert len(before) == 3 + 6 * 3  # of the GPU and of six cores
    assert ask(device, "sudo", "-n", "jetson_clocks", "--store", str(tmp_path / "store")).returncode == 0
    assert ask(device, "sudo", "-n", "jetson_clocks").returncode == 0
    assert device.clock_texts() != before
    assert ask(device, "sudo", "-n", "jetson_clocks", "--restore", str(tmp_path / "store")).returncode == 0
    assert device.clock_texts() == before


def test_a_mode_that_needs_a_reboot_stays_away_after_1_no(stand_in_jetson: Jetson) -> None:
    device = stand_in_jetson()
    device.change(reboot_modes=["MAXN_SUPER"])
    said = ask(device, "sudo", "-n", "nvpmodel", "-m", "2", answer="no\n").stdout
    assert "Reboot required" in said
    assert device.mode() == "15W"
    assert "REBOOT" not in device.commands()
    ask(device, "sudo", "-n", "nvpmodel", "-m", "2", answer="yes\n")
    assert "REBOOT" in device.commands()


def test_its_python3_tells_1_job_where_the_root_is(stand_in_jetson: Jetson, tmp_path: Path) -> None:
    device = stand_in_jetson()
    (tmp_path / "job.json").write_text('{"runtime": "tensorrt"}')
    (tmp_path / "on_device.pyz").write_text("")
    start = [str(device.folder / "bin" / "python3"), "on_device.pyz", "facts", str(tmp_path)]
    subprocess.run(start, cwd=tmp_path, env={"PATH": os.defpath}, timeout=60, check=False, capture_output=True)
    assert json.loads((tmp_path / "job.json").read_text()) == {"runtime": "tensorrt", "root": str(device.root)}


def test_1_trtexec_of_8_5_2_stands_on_its_path(stand_in_jetson: Jetson) -> None:
    device = stand_in_jetson(tensorrt="8.5.2")
    assert "[TensorRT v8502]" in ask(device, "trtexec", "--help").stdout
    assert device.commands() == ["trtexec --help"]
