"""Inputs out of raw files and answers into raw files, a few at a time, so that memory stays bounded.

A raw file is numbers in C order, little-endian; the first axis counts inputs.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from targets.on_device.failures import OnDeviceFailure
from targets.on_device.onnx_runtime_session import quoted, runtime_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BETWEEN_WORDS_S = 0.5
AT_ONCE = 16  # inputs asked together where the model leaves the batch open: small boards hold little
DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class Questions:
    """The inputs of a job, mapped from their files, as the model wants them."""

    arrays: dict[str, Any]  # by the model's names: (N, …)
    dtypes: dict[str, str]
    count: int
    fixed: int | None

    def batch(self, start: int, size: int) -> tuple[dict[str, Any], int]:
        """`size` inputs from `start` on, and how many of them are real: the last batch is filled up with its last."""
        import numpy as np

        feeds, real = {}, min(size, self.count - start)
        for name, array in self.arrays.items():
            part = np.ascontiguousarray(array[start : start + real], dtype=self.dtypes[name])
            filling = [part, np.repeat(part[-1:], size - real, axis=0)] if size > real else [part]
            feeds[name] = np.concatenate(filling) if size > real else part
        return feeds, real

    def first(self) -> dict[str, Any]:
        """One batch for timing: as many as the model is fixed to, else one."""
        return self.batch(0, self.fixed or 1)[0]

    def batches(self) -> Iterator[tuple[dict[str, Any], int, int]]:
        """All of them in order: (inputs, how many are real, how many came before)."""
        size = self.fixed or AT_ONCE
        for start in range(0, self.count, size):
            whole = size if self.fixed else min(size, self.count - start)
            feeds, real = self.batch(start, whole)
            yield feeds, real, start


def questions(session: Any, job: dict[str, Any], folder: Path) -> Questions:
    """The inputs that the job names, fitted to the inputs of the model."""
    doors, given = session.get_inputs(), job.get("inputs") or []
    names = [door.name for door in doors]
    by_name = {each["name"]: each for each in given}
    if len(doors) == 1 and len(given) == 1:  # then the name says nothing
        by_name = {names[0]: given[0]}
    if set(by_name) != set(names):
        raise OnDeviceFailure(
            "usage", f"the model asks for {', '.join(names)}; the job brings {', '.join(by_name) or 'no input'}."
        )
    arrays, dtypes, counts, sizes = {}, {}, set(), set()
    for door in doors:
        if door.type not in DTYPES:
            raise OnDeviceFailure("refused", f"input {door.name} is a {door.type}; known are {', '.join(DTYPES)}.")
        arrays[door.name] = mapped(by_name[door.name], folder)
        dtypes[door.name] = DTYPES[door.type]
        counts.add(len(arrays[door.name]))
        if door.shape and isinstance(door.shape[0], int):
            sizes.add(door.shape[0])
    if len(counts) != 1 or 0 in counts:
        raise OnDeviceFailure("usage", f"the inputs hold {sorted(counts)} entries; one number above 0 is wanted.")
    if len(sizes) > 1:
        raise OnDeviceFailure("refused", f"the inputs of the model have batches of {sorted(sizes)}; one is wanted.")
    count = counts.pop()
    asked = job.get("count")
    return Questions(arrays, dtypes, count if asked is None else min(int(asked), count), sizes.pop() if sizes else None)


def mapped(given: dict[str, Any], folder: Path) -> Any:
    """A raw file as an array of the stated shape; only what is read of it takes memory."""
    import numpy as np

    path, shape = folder / given["file"], [int(axis) for axis in given["shape"]]
    dtype = np.dtype(given["dtype"]).newbyteorder("<")
    if not path.is_file():
        raise OnDeviceFailure("missing", f"there is no file {given['file']} in the folder of the job.")
    wanted = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if path.stat().st_size != wanted or not shape:
        raise OnDeviceFailure(
            "usage",
            f"{given['file']} has {path.stat().st_size} bytes; {given['dtype']} of shape {shape} takes {wanted}.",
        )
    return np.memmap(path, dtype=dtype, mode="r", shape=tuple(shape)) if wanted else np.empty(shape, dtype)


def asked(session: Any, feeds: dict[str, Any]) -> list[Any]:
    """The answers to one batch."""
    import numpy as np

    try:
        answers = session.run(None, feeds)
    except runtime_errors() as error:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        raise OnDeviceFailure("failed", f"the engine fails on {shapes}: {quoted(error)}") from error
    for place, each in enumerate(answers):
        if not isinstance(each, np.ndarray) or each.dtype.kind not in "fiub":
            raise OnDeviceFailure("refused", f"output {place} of the engine is no array of numbers.")
    return list(answers)


def written(session: Any, given: Questions, folder: Path, *, tell: Callable[[int, int], None]) -> list[dict[str, Any]]:
    """Ask everything and write the answers, batch by batch; what was written, as `engines.py` has it.

    The files appear when they are whole. `tell` hears twice a second how many inputs are answered.
    """
    doors = session.get_outputs()
    rows: list[dict[str, Any]] = []
    told_s = 0.0
    with ExitStack() as open_files:
        files: list[Any] = []
        for feeds, real, start in given.batches():
            sent = len(next(iter(feeds.values())))
            for place, each in enumerate(asked(session, feeds)):
                if each.ndim == 0 or len(each) != sent:
                    raise OnDeviceFailure(
                        "failed",
                        f"output {doors[place].name} has shape {list(each.shape)} for {sent} inputs: its first axis "
                        "does not count them.",
                    )
                if start == 0:
                    name = f"output-{place}.raw"
                    files.append(open_files.enter_context(unfinished(folder / name).open("wb")))
                    rows.append({"name": doors[place].name, "dtype": str(each.dtype), "file": name})
                    rows[place]["shape"] = [given.count, *each.shape[1:]]
                elif list(each.shape[1:]) != rows[place]["shape"][1:]:
                    raise OnDeviceFailure("failed", f"output {doors[place].name} changes its shape between batches.")
                files[place].write(each[:real].astype(each.dtype.newbyteorder("<"), copy=False).tobytes())
            if start + real == given.count or time.monotonic() - told_s >= BETWEEN_WORDS_S:
                told_s = time.monotonic()
                tell(start + real, given.count)
    for row in rows:
        unfinished(folder / row["file"]).replace(folder / row["file"])
    return rows


def unfinished(path: Path) -> Path:
    """The name of a file until it is whole."""
    return path.with_name(".unfinished-" + path.name)
