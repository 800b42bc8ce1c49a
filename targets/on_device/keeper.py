"""Keeps our folder on the device: files by their content, one folder per job.

It is not started from the file that is sent over: its source comes over standard input for each call, then one line of
JSON says what to do. The answers are lines of JSON on standard output.

    hello                          is anybody there?
    receive files                  they follow on standard input, each from where an earlier attempt was cut
    run digest what job files …    the same for the files that are not here yet; then one job, watched; then what it
                                   left, as it is asked for
    show, clean                    what lies here; remove it

    FOLDER/blobs/                  see kept_files.py
    FOLDER/jobs/DIGEST-RANDOM/     a job. Removed when its result was fetched; a finished one whose result was not (the
                                   link broke) is handed to the next call with the same digest, for a day
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from targets.on_device.events import emit
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.job_watch import Watch, watched
from targets.on_device.kept_files import CHUNK, SILENT_S, held, is_whole, lock_of, receive, sha256_of

A_DAY_S = 86400
PART, RESULT, LOCK = "on_device.pyz", "result.json", "job.lock"


def keep() -> int:
    """Do what the first line asks for; returns the exit code."""
    request = json.loads(sys.stdin.buffer.readline())
    emit({"event": "here"})
    folder = Path(request["folder"]).expanduser()
    does = {"hello": hello, "receive": receive, "run": run, "show": show, "clean": clean}
    try:
        does[request["do"]](folder, request)
    except OnDeviceFailure as failure:
        emit({"event": "failed", "kind": failure.kind, "sentence": failure.sentence})
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        kind = "full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "missing"
        said = f"{error.filename or folder}: {error.strerror or error}."
        with suppress(OSError):
            emit({"event": "failed", "kind": kind, "sentence": said})
        return 1
    return 0


def hello(folder: Path, request: dict[str, Any]) -> None:
    """Answer."""
    emit({"event": "done"})


def run(folder: Path, request: dict[str, Any]) -> None:
    """One job, from its files to its result."""
    while True:
        (folder / "jobs").mkdir(mode=0o700, parents=True, exist_ok=True)
        with held(folder / "lock"):  # short: nobody sweeps, cleans or takes over meanwhile
            files = dict(request["files"].values())
            lacking = [each for each in files.items() if not is_whole(folder / "blobs" / each[0], each[1])]
            if not lacking:
                found = sweep(folder / "jobs", request["digest"])
                place, lock = found or set_up(folder, request)
                break
        emit({"event": "lacking", "sha256": [digest for digest, _ in lacking]})
        receive(folder, {"files": lacking})
    emit({"event": "begins"})
    watch = Watch()
    threading.Thread(target=watch.listen, daemon=True).start()
    if found:
        ended: dict[str, Any] = {"how": "done"}
    else:
        command = [str(Path(request["python"]).expanduser()), PART, request["what"], str(place)]
        ended = watched(command, place, limit_s=request["limit_s"], watch=watch)
    if ended["how"] == "done":
        ended["result"] = json.loads((place / RESULT).read_text(encoding="utf-8"))
        ended["before"] = found is not None
    else:
        shutil.rmtree(str(place), ignore_errors=True)
    emit({"event": "ended", **ended})
    if ended["how"] == "done" and hand_over(place, watch):
        shutil.rmtree(str(place), ignore_errors=True)
        emit({"event": "over"})
    os.close(lock)


def sweep(jobs: Path, digest: str) -> tuple[Path, int] | None:
    """Remove what killed jobs left; give a finished job of this digest, with its lock, if there is one."""
    found = None
    for place in sorted(jobs.iterdir()):
        lock = lock_of(place / LOCK)
        if lock is None:  # somebody is at work there
            continue
        result = place / RESULT
        if not result.exists() or time.time() - result.stat().st_mtime > A_DAY_S:
            shutil.rmtree(str(place), ignore_errors=True)
        elif found is None and place.name.startswith(digest):
            found = place, lock
            continue
        os.close(lock)
    return found


def set_up(folder: Path, request: dict[str, Any]) -> tuple[Path, int]:
    """The job's own folder with its files, and its lock."""
    place = folder / "jobs" / f"{request['digest']}-{os.urandom(4).hex()}"
    place.mkdir(mode=0o700)
    lock = lock_of(place / LOCK)
    assert lock is not None
    try:
        for name, (digest, _) in request["files"].items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(str(folder / "blobs" / digest), str(place / name))
            except OSError:  # a file system without hard links
                shutil.copyfile(str(folder / "blobs" / digest), str(place / name))
        (place / "job.json").write_text(json.dumps(request["job"]), encoding="utf-8")
    except OSError:
        shutil.rmtree(str(place), ignore_errors=True)
        raise
    return place, lock


def hand_over(place: Path, watch: Watch) -> bool:
    """Give the files that are asked for; whether the other side has all that it wanted."""
    while True:
        try:
            line = watch.asked.get(timeout=SILENT_S)
        except Empty:
            return False
        if line is None:
            return False
        name = json.loads(line)["give"]
        if name is None:
            return True
        if not (place / name).is_file():
            emit({"event": "file", "bytes": None})
            continue
        with (place / name).open("rb") as file:
            emit({"event": "file", "bytes": (place / name).stat().st_size, "sha256": sha256_of(file)})
            file.seek(0)
            for chunk in iter(lambda: file.read(CHUNK), b""):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def show(folder: Path, request: dict[str, Any]) -> None:
    """What we have left, and what space there is."""
    blobs = files_in(folder / "blobs")
    above = next(each for each in (folder, *folder.parents) if each.is_dir())
    left = {
        "folder": str(folder), "files": len(blobs), "bytes": sum(path.stat().st_size for path in blobs),
        "jobs": len(files_in(folder / "jobs")), "free_bytes": shutil.disk_usage(str(above)).free,
    }  # fmt: skip
    emit({"event": "done", "left": left})


def clean(folder: Path, request: dict[str, Any]) -> None:
    """Remove all that is ours and that nobody is at work with."""
    freed, busy = 0, 0
    if folder.is_dir():
        with held(folder / "lock"):
            freed, busy = clear(folder)
            if not busy:
                (folder / "lock").unlink()
    for path in (folder / "blobs", folder / "jobs", folder):
        with suppress(OSError):  # not empty, or not there
            path.rmdir()
    emit({"event": "done", "freed_bytes": freed, "busy": busy})


def clear(folder: Path) -> tuple[int, int]:
    """Remove files and jobs; (bytes, how many jobs and files stay because somebody works with them)."""
    freed, busy = 0, 0
    for place in files_in(folder / "jobs"):
        lock = lock_of(place / LOCK)
        if lock is None:
            busy += 1
            continue
        shutil.rmtree(str(place), ignore_errors=True)
        os.close(lock)
    for path in files_in(folder / "blobs"):
        lock = lock_of(path)
        if lock is None:
            busy += 1
            continue
        freed += path.stat().st_size
        path.unlink()
        os.close(lock)
    return freed, busy


def files_in(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where there is none."""
    return sorted(folder.iterdir()) if folder.is_dir() else []
