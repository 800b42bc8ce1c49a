"""A process of the job's own: its lines as they come, how it ended, and the most memory that it held.

It stays in the group of processes of the job, and ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BYTES_PER_KIB = 1024  # ru_maxrss is in KiB on Linux
PACKAGE_ROOT = Path(__file__).parents[2]  # the folder, or the packed file, that holds the package `targets`


@dataclass(frozen=True)
class Ended:
    """code: the exit code; the negative number of a signal where one ended it."""

    code: int
    seconds: float
    peak_rss_bytes: int

    @property
    def killed(self) -> bool:
        """By SIGKILL, which on a board is how a full memory ends a process; 137 is how a shell says it."""
        return self.code in (-signal.SIGKILL, 128 + signal.SIGKILL)

    @property
    def crashed(self) -> bool:
        """By a fault of its own: a segmentation fault, an abort, a bus error, an illegal instruction."""
        faults = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
        return self.code in [-fault for fault in faults] + [128 + fault for fault in faults]


def run_lines(command: list[str], *, folder: Path, on_line: Callable[[str], None]) -> Ended:
    """Start it in the folder and hand over each line of its output, errors among them."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=str(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            on_line(line.decode("utf-8", "replace").rstrip("\r\n"))
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:  # Ctrl-C too: what was started must not go on alone
        process.kill()
        process.wait()
        raise
    finally:
        process.stdout.close()
    process.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return Ended(process.returncode, time.perf_counter() - started, usage.ru_maxrss * BYTES_PER_KIB)


def python_command(function: str, arguments: list[str], *, python: str = "") -> list[str]:
    """A fresh interpreter, this one where none is named, that calls `module:name` of this package."""
    module, name = function.split(":")
    lines = f"import sys; sys.path.insert(0, sys.argv[1]); from {module} import {name}; sys.exit({name}(sys.argv[2:]))"
    return [python or sys.executable, "-c", lines, str(PACKAGE_ROOT), *arguments]
