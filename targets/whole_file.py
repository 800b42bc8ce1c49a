"""A file appears whole or not at all: written beside its place, forced to disk, then renamed over it."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then put it in place; on failure nothing is left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same ending as the final file: some runtimes choose the format by it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
    try:
        write(beside)
        # mkstemp makes the file readable by its owner only; an engine is handed over like any other file.
        beside.chmod(0o644)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself
        finally:
            os.close(folder)
    finally:
        beside.unlink(missing_ok=True)
