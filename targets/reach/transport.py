"""What a way to a device must be able to do: start our keeper there, and say why it could not be started.

All else (files, jobs, their watch) is the same for every way, so that a job here and one over ssh behave alike.
"""

import subprocess
from dataclasses import dataclass
from typing import Protocol

from targets.errors import TargetsError


@dataclass(frozen=True)
class Finished:
    """How a started program ended. said: what it wrote to standard error"""

    code: int
    said: str


class Transport(Protocol):
    """A way to a device."""

    @property
    def shown(self) -> str:
        """What errors call the device."""

    @property
    def python(self) -> str:
        """The program that runs our part there."""

    @property
    def folder(self) -> str:
        """Where we keep files there."""

    def start(self, *, errors: int) -> subprocess.Popen[bytes]:
        """Python there, on what `device_part.FIRST_LINE` says, with pipes to it. errors: a handle for its stderr

        Raises:
            DeviceMissing: the program that would reach it is not here.
        """

    def is_cut(self, finished: Finished) -> bool:
        """Whether that end was the way's own, and not that of the program there."""

    def refusal(self, finished: Finished) -> TargetsError | None:
        """What the user must set right before the device can be reached; None where waiting may help."""

    def unreachable(self, finished: Finished) -> TargetsError:
        """The sentence for a device that does not answer."""

    def forget(self) -> None:
        """Give up what is open, so that the next start begins anew."""

    def close(self) -> None:
        """The same for good."""
