"""One run at a time on one `--out`: a second one is told so and changes nothing."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import OutRefused
from pipeline.store import refusal


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the operating system lets go when the process ends, however it ends.

    Raises:
        OutRefused: another process holds it, or it cannot be written.
    """
    path = folder / "run.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise refusal(path, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 64).decode(errors="replace").strip() or "?"
            raise OutRefused(
                f"another run (process {holder}) is at work in {folder}. Wait for it, or choose another folder with "
                "--out."
            ) from error
        except OSError as error:
            raise refusal(path, error) from error
        try:
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        except OSError as error:
            raise refusal(path, error) from error
        yield
    finally:
        os.close(handle)
