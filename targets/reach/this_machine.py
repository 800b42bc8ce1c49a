"""The machine we are on as a device: the same jobs, in a process of their own, without ssh."""

import subprocess
import sys
from pathlib import Path

from targets.errors import DeviceMissing, TargetsError
from targets.reach.device import Device
from targets.reach.device_part import FIRST_LINE
from targets.reach.transport import Finished


def this_machine(folder: Path, *, part: bytes | None = None) -> Device:
    """This machine, keeping its files in a folder. part: what runs there in place of our own device part"""
    return Device(Here(folder.resolve()), address="this machine", part=part, patience_s=0)


class Here:
    """No way at all. A job does not get this terminal's Ctrl-C: it is stopped as one elsewhere would be."""

    shown = "this machine"
    python = sys.executable

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def start(self, *, errors: int) -> subprocess.Popen[bytes]:
        """Our own Python."""
        return subprocess.Popen(
            [sys.executable, "-S", "-c", FIRST_LINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True,
        )  # fmt: skip

    def is_cut(self, finished: Finished) -> bool:
        """Somebody ended it from outside."""
        return finished.code < 0

    def refusal(self, finished: Finished) -> TargetsError | None:
        """There is nobody to refuse."""
        return None

    def unreachable(self, finished: Finished) -> TargetsError:
        """What it wrote."""
        said = (finished.said.strip().splitlines() or [f"exit code {finished.code}"])[-1]
        return DeviceMissing(f"A process of its own cannot be started on this machine: {said}")

    def forget(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""
