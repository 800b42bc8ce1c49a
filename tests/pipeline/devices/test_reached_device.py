"""What a job on a device says is shown as progress; without an address is no device; the words of `compress build`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.build_command import build, words
from pipeline.errors import BundleRefused
from pipeline.reached_device import heard, reached
from targets.errors import DeviceMissing


class Listening:
    """A progress that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, stage: str) -> None:
        raise AssertionError(stage)

    def advance(self, done: float, total: float, note: str = "") -> None:
        self.told.append((done, total, note))

    def say(self, text: str) -> None:
        self.told.append(text)

    def finish(self, row: Mapping[str, Any]) -> None:
        raise AssertionError(row)

    def close(self) -> None:
        raise AssertionError


def test_of_4_events_2_are_shown_and_none_divides_by_0() -> None:
    progress = Listening()
    heard(progress, {"event": "progress", "done": 3, "of": 0, "what": "answers"})
    heard(progress, {"event": "says", "text": "slow"})
    heard(progress, {"event": "unknown"})
    heard(progress, {})
    assert progress.told == [(3, 1, "on the device: answers"), "slow"]


def test_no_address_is_no_device_and_an_address_of_nothing_is_refused_at_once(tmp_path: Path) -> None:
    with reached(None, config=tmp_path / "none.ini") as device:
        assert device is None
    with pytest.raises(DeviceMissing), reached("nowhere-1", config=tmp_path / "none.ini"):
        raise AssertionError("nothing was reached")


def test_an_empty_folder_is_no_bundle_to_build_and_2_engines_are_told_in_1_line_each(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="is no bundle"):
        build([str(tmp_path)], config=tmp_path / "none.ini")
    rivals = [
        {"name": "int8", "p50_ms": 1.4, "shipped": False, "why_not": "0.86 times as fast"},
        {"name": "float", "p50_ms": 1.2, "shipped": True, "why_not": ""},
    ]
    verdict = {"verdict": "met", "limit": "max_latency_ms", "bound": 2.0, "origin": "test", "why": "1.2 ms"}
    manifest: dict[str, Any] = {
        "engine": {"runtime": "tensorrt 10.3.0", "integer_ops": 0, "float_ops": 4},
        "stages": [{"facts": {"rivals": rivals}}], "verdicts": [verdict],
    }  # fmt: skip
    assert words(manifest, Path("there")).splitlines() == [
        "engine: tensorrt 10.3.0, 0 products in integers, 4 in float",
        "  int8: 1.400 ms; not handed over: 0.86 times as fast",
        "  float: 1.200 ms; handed over",
        "met: max_latency_ms 2 (test): 1.2 ms",
        "bundle: there",
        "report: there/report.html",
    ]
