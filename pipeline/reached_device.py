"""The device that `--device` names, for as long as the command runs; what it says goes to the progress."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.progress import Progress
from targets.reach.device import Device, connect


@contextmanager
def reached(address: str | None, *, config: Path) -> Iterator[Device | None]:
    """The device at an address, or a name from the file of devices; None where none was named.

    Raises:
        DeviceMissing: nothing is named so, or it cannot be reached.
    """
    if address is None:
        yield None
        return
    with connect(address, config=config) as device:
        device.facts()  # whatever hinders us shows now, not behind an hour of training
        yield device


def heard(progress: Progress, event: dict[str, Any]) -> None:
    """Show what a job on the device says."""
    if event.get("event") == "progress":
        progress.advance(
            int(event.get("done", 0)), max(1, int(event.get("of", 1))), f"on the device: {event.get('what')}"
        )
    elif event.get("event") == "says":
        progress.say(str(event.get("text")))
