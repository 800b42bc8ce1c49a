"""Read the files in which a device tells its state, and ask its commands: what is not there is None, never an error.

`root` stands in front of every path, so that a tree of files can stand in for a device.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

LIMIT_S = 20.0
# Not on the PATH of an account that comes in by ssh, yet where the commands of a Jetson are
FURTHER_FOLDERS = ("usr/sbin", "sbin", "usr/bin", "bin", "usr/local/bin", "usr/src/tensorrt/bin")


def text_of(path: Path) -> str | None:
    """The text of a file, without what ends it; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except (OSError, ValueError):
        return None


def number_of(path: Path) -> int | None:
    """The whole number that a file holds."""
    text = text_of(path)
    try:
        return int(text.split()[0], 0) if text else None
    except ValueError:
        return None


def listed(folder: Path, pattern: str) -> list[Path]:
    """The paths below a folder that fit a pattern, in order; none where it cannot be looked into."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def command_at(name: str, *, root: str = "/") -> str | None:
    """Where a command is: on the PATH first, then where it usually lies."""
    on_path = shutil.which(name)
    if on_path:
        return on_path
    for folder in FURTHER_FOLDERS:
        place = Path(root) / folder / name
        if os.access(str(place), os.X_OK):
            return str(place)
    return None


def asked(command: list[str], *, limit_s: float = LIMIT_S, answer: str = "") -> tuple[int | None, str]:
    """Exit code and all that a command says; the code is None where it cannot be started or does not end in time.

    It gets its own session: what stops us does not stop a command that puts the clocks back.
    """
    try:
        done = subprocess.run(
            command,
            input=answer.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, "%s did not end within %.0f s" % (command[0], limit_s)
    except OSError as error:
        return None, "%s: %s" % (command[0], error.strerror or error)
    return done.returncode, done.stdout.decode("utf-8", errors="replace").strip()
