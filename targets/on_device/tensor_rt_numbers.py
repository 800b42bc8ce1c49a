"""Raw numbers of TensorRT's types → float32, without NumPy."""

from __future__ import annotations

import struct
from array import array

# TensorRT's name of a type → bytes
ITEM = {"FLOAT": 4, "HALF": 2, "BF16": 2, "INT8": 1, "UINT8": 1, "BOOL": 1, "INT32": 4, "INT64": 8}
CODES = {"INT8": "b", "UINT8": "B", "BOOL": "B", "INT32": "i", "INT64": "q"}


def as_float32(raw: bytes, *, kind: str) -> bytes:
    """The same numbers; int64 beyond 2²⁴ are rounded."""
    if kind == "FLOAT":
        return raw
    if kind == "HALF":
        return array("f", struct.unpack(f"<{len(raw) // 2}e", raw)).tobytes()
    if kind == "BF16":  # the upper half of a float32
        return b"".join(b"\0\0" + raw[place : place + 2] for place in range(0, len(raw), 2))
    values = array(CODES[kind])
    values.frombytes(raw)
    return array("f", values).tobytes()
