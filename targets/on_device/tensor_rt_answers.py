"""Inputs in batches, as the engine takes them, and answers put together again.

The engine has a fixed batch (settings "batch", 1 where none is named); a last batch that is not full repeats its last
input, and what comes of the repetition is left out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.on_device.events import progress
from targets.on_device.failures import OnDeviceFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

ITEM_BYTES = {
    "float32": 4, "float16": 2, "int8": 1, "uint8": 1, "bool": 1, "int32": 4, "int64": 8, "float64": 8,
}  # fmt: skip


def asked_of(job: dict[str, Any], engine: str) -> list[dict[str, Any]]:
    """The inputs that an engine is timed with: its own, "inputs_of", where engines take different kinds of numbers."""
    own: list[dict[str, Any]] = (job.get("inputs_of") or {}).get(engine) or job.get("inputs") or []
    return own


class Batches:
    """The inputs of a job, batch by batch."""

    def __init__(self, job: dict[str, Any], folder: Path) -> None:
        self.inputs, self.folder = job["inputs"], folder
        self.batch = int((job.get("settings") or {}).get("batch", 1))
        self.count = int(job.get("count") or min(each["shape"][0] for each in self.inputs))
        for each in self.inputs:
            self._check(each)

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch)

    def each(self) -> Iterator[tuple[int, dict[str, str]]]:
        """(index, {input: name of a file that holds this batch})."""
        for index in range(len(self)):
            files = {}
            for place, each in enumerate(self.inputs):
                file = self.folder / f"batch-{place}.bin"
                file.write_bytes(self.content(each, index))
                files[each["name"]] = file.name
            yield index, files

    def first(self) -> dict[str, str]:
        """The files of the first batch."""
        return next(self.each())[1]

    def content(self, row: dict[str, Any], index: int) -> bytes:
        """The numbers of one input in one batch."""
        size = self._size(row)
        with (self.folder / row["file"]).open("rb") as file:
            file.seek(index * self.batch * size)
            held: bytes = file.read(self.kept(index) * size)
        return held + held[-size:] * (self.batch - self.kept(index))

    def kept(self, index: int) -> int:
        """How many of a batch's answers are wanted."""
        return min(self.batch, self.count - index * self.batch)

    def progress(self, index: int) -> None:
        """Tell, about a hundred times in all."""
        if index + 1 == len(self) or (index + 1) % max(1, len(self) // 100) == 0:
            progress(index + 1, len(self), "batches answered")

    def _size(self, row: dict[str, Any]) -> int:
        """Bytes of one input."""
        size: int = math.prod(row["shape"][1:]) * ITEM_BYTES[row["dtype"]]
        return size

    def _check(self, row: dict[str, Any]) -> None:
        if row["dtype"] not in ITEM_BYTES:
            raise OnDeviceFailure("usage", f"input {row['name']} is of type {row['dtype']}, which is not known here.")
        found, wanted = (self.folder / row["file"]).stat().st_size, self.count * self._size(row)
        if self.count < 1 or self.batch < 1 or found < wanted:
            raise OnDeviceFailure(
                "usage", f"{row['file']} holds {found} bytes; {self.count} inputs {row['name']} have {wanted}."
            )


class Collected:
    """The answers of all batches, one file of float32 per output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs: dict[str, dict[str, Any]] = {}
        self.rounded = False

    def add(self, outputs: list[dict[str, Any]], *, kept: int) -> None:
        """Those of one batch: [{"name", "shape", "raw", "rounded"}], raw in float32."""
        for place, each in enumerate(outputs):
            rest = each["shape"][1:]
            row = self.outputs.setdefault(
                each["name"], {"file": f"answers-{place}.bin", "rest": rest, "count": 0, "open": None}
            )
            if row["rest"] != rest:
                raise OnDeviceFailure("failed", f"output {each['name']} has the shape {rest} after {row['rest']}.")
            if row["open"] is None:
                row["open"] = (self.folder / row["file"]).open("wb")
            row["open"].write(each["raw"][: kept * math.prod(rest) * 4])
            row["count"] += kept
            self.rounded = self.rounded or bool(each.get("rounded"))

    def close(self) -> list[dict[str, Any]]:
        """[{"name", "dtype", "shape", "file"}]."""
        rows = []
        for name, row in self.outputs.items():
            row["open"].close()
            rows.append({"name": name, "dtype": "float32", "shape": [row["count"], *row["rest"]], "file": row["file"]})
        if not rows:
            raise OnDeviceFailure("failed", "the engine has answered nothing.")
        return rows
