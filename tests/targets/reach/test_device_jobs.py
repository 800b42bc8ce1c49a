"""Jobs on a device, reached over a real sshd on loopback and on this machine: what goes over, what comes back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from targets.reach.device import Device
from targets.reach.this_machine import this_machine

Board = Callable[..., Device]


@pytest.fixture(params=["over ssh", "here"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    """Both ways: the same jobs, the same words."""
    if request.param == "here":
        return this_machine(tmp_path / "kept", part=request.getfixturevalue("double"))
    found: Device = request.getfixturevalue("board")()
    return found


def test_a_job_runs_and_its_1_file_comes_back_under_its_name(device: Device, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(b"abc" * 100_000)
    events: list[dict[str, Any]] = []
    result = device.job(
        "reverse", {}, files={"given": tmp_path / "given"}, fetch=("*",), into=tmp_path / "back", limit_s=60,
        on_event=events.append,
    )  # fmt: skip
    assert result["length"] == 300_000
    assert (tmp_path / "back" / "out" / "reversed").read_bytes() == b"cba" * 100_000
    assert {"event": "progress", "done": 1, "of": 2, "what": "bytes"} in events
    assert {"event": "says", "text": "a line that is no event"} in events
