"""Do one job on the device and leave its result as a file.

    python3 on_device.pyz WHAT [FOLDER]      WHAT is one of JOBS

FOLDER (default: where it is started) holds `job.json` and the files that the job names; nothing outside it is written.
`result.json` appears there whole or not at all, after all other files of the result. Exit code 0: it is there; 1: the
last line on stdout says why not; 130: stopped.

A job is a function (job, folder) → result, both plain JSON data; `events.py` has what it may say meanwhile.
"""

from __future__ import annotations

import errno
import json
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.on_device.events import emit
from targets.on_device.failures import OnDeviceFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    Job = Callable[[dict[str, Any], Path], dict[str, Any]]

# What is asked → where it is answered; imported when it is asked for, so that no job needs what only another one needs.
JOBS = {
    "facts": "targets.on_device.facts:facts",
    "build": "targets.on_device.engines:build",
    "answer": "targets.on_device.engines:answer",
    "measure": "targets.on_device.engines:measure",
    "layers": "targets.on_device.engines:layers",
    "memory": "targets.on_device.engines:memory",
}


def main(arguments: list[str]) -> int:
    """Do the job; returns the exit code."""
    if not arguments or arguments[0] not in JOBS or len(arguments) > 2:
        return failed("usage", f"one of {', '.join(JOBS)} is wanted, and a folder.")
    folder = Path(arguments[1] if len(arguments) > 1 else ".").resolve()
    try:
        job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        result = function_of(JOBS[arguments[0]])(job, folder)
        write_whole(folder / "result.json", json.dumps(result, indent=1).encode())
    except OnDeviceFailure as failure:
        return failed(failure.kind, failure.sentence)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return failed("full", f"no space is left on the device below {folder}. Make room, and start again.")
        return failed("missing", f"{error.filename or folder}: {error.strerror or error}.")
    except KeyboardInterrupt:
        return 130
    emit({"event": "done"})
    return 0


def function_of(place: str) -> Job:
    """The function at "module:name"."""
    module, name = place.split(":")
    found: Job = getattr(import_module(module), name)
    return found


def failed(kind: str, sentence: str) -> int:
    """Say why there is no result; gives the exit code."""
    emit({"event": "failed", "kind": kind, "sentence": sentence})
    return 1


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, force to disk, rename: the file appears whole or not at all."""
    beside = path.with_name(".unfinished-" + path.name)
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
