"""Arrays as the files that go to a device and come back: raw numbers, C order, little-endian; JSON says the rest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.errors import EngineFailed


def written_raw(array: NDArray[Any], path: Path, *, name: str) -> dict[str, Any]:
    """Write the array; gives its entry in a job, {"name", "dtype", "shape", "file"}."""
    plain = np.ascontiguousarray(array)
    path.write_bytes(plain.astype(plain.dtype.newbyteorder("<"), copy=False).tobytes())
    return {"name": name, "dtype": plain.dtype.name, "shape": list(plain.shape), "file": path.name}


def read_raw(entry: Mapping[str, Any], folder: Path) -> NDArray[Any]:
    """The array of such an entry, whose file lies in `folder`.

    Raises:
        EngineFailed: the entry makes no sense, or the file has not the bytes that it says.
    """
    try:
        kind, shape = np.dtype(str(entry["dtype"])).newbyteorder("<"), tuple(int(axis) for axis in entry["shape"])
        content = (folder / Path(str(entry["file"])).name).read_bytes()
        array: NDArray[Any] = np.frombuffer(content, dtype=kind).reshape(shape)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise EngineFailed(f"What the device sent for '{entry.get('name')}' cannot be read: {error}.") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)
