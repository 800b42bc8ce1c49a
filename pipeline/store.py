"""Finished work on disk, found again by the digest of everything it depends on.

A stage's result lies in `work/<stage>-<first 16 of the digest>/`. The file `result.json` is written last, so a folder
that has one is complete, and a run that was killed finds every finished stage again. Every write is atomic: written
beside, flushed to the disk, renamed.
"""

import dataclasses
import errno
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import OutRefused

RESULT = "result.json"


def settings_of(value: Any) -> Any:
    """`value` as plain JSON data that changes with the setting: dataclasses by name and fields, functions by name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: settings_of(getattr(value, f.name)) for f in dataclasses.fields(value) if f.repr}
        return {"is": type(value).__qualname__, **fields}
    if isinstance(value, functools.partial):
        return {"is": name_of(value.func), "args": settings_of(value.args), "kwargs": settings_of(value.keywords)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): settings_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [settings_of(item) for item in value]
    if isinstance(value, (set, frozenset)):  # their order differs from process to process
        return sorted((settings_of(item) for item in value), key=json.dumps)
    if isinstance(value, np.ndarray):  # its text leaves values out
        digest = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
        return {"is": f"array {value.dtype}", "shape": list(value.shape), "digest": digest}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if callable(value):
        return name_of(value)
    return repr(value)


def name_of(function: Callable[..., Any]) -> str:
    """`module:qualified name` of a function or class."""
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', repr(function))}"


def digest_of(*parts: Any) -> str:
    """SHA-256 over the JSON form of `parts`, hexadecimal."""
    text = json.dumps([settings_of(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


@functools.cache
def code_version() -> str:
    """SHA-256 over the source files of the three packages: a result made by other code is not found again."""
    hasher = hashlib.sha256()
    for package in ("pipeline", "targets", "calibration"):
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(root).rglob("*.py")):
                hasher.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return hasher.hexdigest()


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; renamed to it when the block ends well, removed when it does not.

    Raises:
        OutRefused: the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise refusal(path, error) from error
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(0o644)
        beside.replace(path)
    except OSError as error:
        raise refusal(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with written_atomically(path) as beside:
        beside.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as readable JSON, atomically; NaN is refused, it is no JSON."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON value in `path`."""
    return json.loads(path.read_text(encoding="utf-8"))


def refusal(path: Path, error: OSError) -> OutRefused:
    """What a failed write means to the user, in one sentence."""
    if error.errno == errno.EFBIG:
        return OutRefused(
            f"{path} is larger than a file may be here (`ulimit -f`). Raise that limit, or choose another folder "
            "with --out."
        )
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return OutRefused(f"{path.parent} is not a folder, or stands below a file. Choose a folder with --out DIR.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutRefused(
            f"the disk that holds {path.parent} is full. Everything finished so far is kept: "
            "free some space and run the same command again, or choose another folder with --out."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT):
        return OutRefused(
            f"{path.parent} cannot be written ({error.strerror}). Choose a folder of yours with --out DIR."
        )
    return OutRefused(f"writing {path} failed ({error.strerror or error}). Choose another folder with --out DIR.")


@dataclasses.dataclass(frozen=True)
class Store:
    """The folder of finished work below one `--out`."""

    folder: Path

    def place(self, stage: str, digest: str) -> Path:
        """Where the result of `stage` with this digest lies, whether it is there or not."""
        return self.folder / f"{stage}-{digest[:16]}"

    def find(self, stage: str, digest: str) -> dict[str, Any] | None:
        """The finished result, or None. A result whose files were damaged since does not count as finished."""
        place = self.place(stage, digest)
        try:
            result = read_json(place / RESULT)
        except (OSError, ValueError):
            return None
        if not isinstance(result, dict) or result.get("digest") != digest:
            return None
        for name, expected in result.get("files", {}).items():
            if not (place / name).is_file() or file_digest(place / name) != expected:
                return None
        return result

    def finish(self, stage: str, digest: str, *, files: tuple[str, ...], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Declare the result complete; its files (names inside its folder) are pinned by their digests."""
        place = self.place(stage, digest)
        pinned = {name: file_digest(place / name) for name in files}
        result = {"stage": stage, "digest": digest, "files": pinned, "facts": dict(facts)}
        write_json(place / RESULT, result)
        return result

    def forget(self) -> None:
        """Remove everything (`--fresh`)."""
        shutil.rmtree(self.folder, ignore_errors=True)
