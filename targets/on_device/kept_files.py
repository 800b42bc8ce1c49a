"""Files that were sent to this device, kept by their content so that nothing is sent twice.

FOLDER/blobs/SHA256         a file, whole. Never written again: its time of change is set to 0, so that a job which
                            wrote into one (they are linked into the jobs' folders) is found out
FOLDER/blobs/SHA256.part    one that is still to come; the next attempt goes on behind its last byte
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Iterator

from targets.on_device.events import emit
from targets.on_device.failures import OnDeviceFailure

SILENT_S = 30  # several times what the other side lets pass between two signs of life
CHUNK = 1 << 20


def is_whole(blob: Path, size: int) -> bool:
    """Whether the file is there and was not written since it arrived."""
    try:
        found = blob.stat()
    except FileNotFoundError:
        return False
    return found.st_size == size and found.st_mtime == 0


def receive(folder: Path, request: dict[str, Any]) -> None:
    """Take files in, one after the other."""
    for digest, size in request["files"]:
        receive_one(folder, digest, size)


def receive_one(folder: Path, digest: str, size: int) -> None:
    """Take a file in. Two that send the same one do so one after the other, and the second finds it there."""
    blob, part = folder / "blobs" / digest, folder / "blobs" / (digest + ".part")
    blob.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with held(part) as file:
        if is_whole(blob, size):
            part.unlink()
            emit({"event": "done", "had": size})
            return
        had = file.seek(0, os.SEEK_END)
        if had > size:
            had = file.truncate(0)
            file.seek(0)
        free = shutil.disk_usage(str(folder)).free
        if size - had > free:
            part.unlink()  # no space: what came of it takes none away from others
            raise OnDeviceFailure("full", f"{size - had} bytes are to come and {free} are free below {folder}.")
        emit({"event": "from", "bytes": had})
        try:
            append(file, size - had)
            os.fsync(file.fileno())
        except OSError:
            part.unlink()
            raise
        file.seek(0)
        if sha256_of(file) != digest:
            part.unlink()
            raise OnDeviceFailure("failed", f"the file {digest[:12]} did not arrive as it was sent.")
        os.fchmod(file.fileno(), 0o444)
        os.utime(str(part), (0, 0))
        part.replace(blob)
        emit({"event": "done", "had": had})


def append(file: BinaryIO, size: int) -> None:
    """So many bytes of standard input; ends this process when they stop coming, and leaves what came."""
    while size > 0:
        signal.alarm(SILENT_S)
        chunk = os.read(0, min(size, CHUNK))  # nothing is buffered: it was sent after our answer
        signal.alarm(0)
        if not chunk:
            file.flush()
            sys.exit(1)
        file.write(chunk)
        size -= len(chunk)
    file.flush()


@contextmanager
def held(path: Path) -> Iterator[BinaryIO]:
    """The file, open to read and write, and locked for this process; waits for whoever has it."""
    while True:
        handle = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(handle, fcntl.LOCK_EX)
            mine = False
            with suppress(FileNotFoundError):
                mine = os.fstat(handle).st_ino == path.stat().st_ino  # else the one before us renamed or removed it
            if mine:
                yield file
                return


def lock_of(path: Path) -> int | None:
    """An open, locked handle of the file, or None where somebody else holds it."""
    handle = os.open(str(path), os.O_RDONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def sha256_of(file: BinaryIO) -> str:
    """The digest of an open file from where it stands."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()
