"""The files that trtexec leaves: times, profile and outputs, of every version from 8.5 to 11.

    times     [{"computeMs": 0.61, "latencyMs": 0.66, "startComputeMs": …, …}, …]      8.x: the warm-up's rows are in
    profile   [{"count": 100}, {"name": "conv1", "averageMs": 0.01, "medianMs": 0.01, "percentage": 2.1}, …]
    outputs   [{"name": "logits", "dimensions": "1x10", "values": [ 0.1, -2.5, … ]}]

Source: sampleReporting.cpp of TensorRT's open-source samples. A value is written with the digits that a C++ stream
writes by default, six, and a layer's name is not escaped.
"""

from __future__ import annotations

import json
import math
import re
import struct
from array import array
from pathlib import Path
from typing import Any

from targets.on_device.failures import OnDeviceFailure

SIX_DIGITS = 1e-5  # twice what rounding to six digits can do
NOT_A_NUMBER = re.compile(r"(?<=[\s:,\[])(-?)(nan|inf)(?=[\s,\]}])", re.I)


def times_from_file(path: Path, *, timed: int | None) -> tuple[list[float], list[float]]:
    """Compute and latency in ms of each run; of `timed`, the count that the log names, the last ones."""
    rows = [row for row in _list_in(path) if "computeMs" in row]
    if timed is not None and 0 < timed < len(rows):
        rows = rows[-timed:]
    if not rows:
        raise OnDeviceFailure("failed", f"trtexec left no times in {path.name}: it timed nothing.")
    compute = [float(row["computeMs"]) for row in rows]
    latency = [float(row["latencyMs"]) for row in rows]
    if not all(0 < value < float("inf") for value in [*compute, *latency]):
        raise OnDeviceFailure("failed", f"trtexec left a time in {path.name} that is no time at all.")
    return compute, latency


def profile_from_file(path: Path) -> dict[str, dict[str, Any]]:
    """Layer → {"ms", "statistic"}; the median, or the average where the version writes no median.

    A name that comes twice is one row: the sum.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in _list_in(path):
        if "name" not in row:
            continue
        statistic = "median" if "medianMs" in row else "average"
        milliseconds = float(row["medianMs"] if statistic == "median" else row["averageMs"])
        before = found.get(row["name"], {"ms": 0.0})["ms"]
        found[row["name"]] = {"ms": before + milliseconds, "statistic": statistic}
    return found


def outputs_from_file(path: Path) -> list[dict[str, Any]]:
    """[{"name", "shape", "values"}] of one run."""
    outputs = []
    for row in _list_in(path):
        values = [float(value) for value in row["values"]]
        shape = [int(length) for length in re.findall(r"\d+", str(row["dimensions"]))]
        count = 1
        for length in shape:
            count *= length
        if count != len(values):
            raise OnDeviceFailure(
                "failed", f"trtexec left {len(values)} values of {row['name']}, whose shape is {row['dimensions']}."
            )
        outputs.append({"name": row["name"], "shape": shape, "values": values})
    return outputs


def raw_values(outputs: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The outputs with "raw", their numbers in float32: from --dumpRawBindingsToFile where that left a file, which
    is taken only where it says what the text says; else from the text, which is rounded.

    The file is called NAME.output.1.10.fp32.raw, or fp16; characters of the name that no file may have are replaced.
    """
    found = []
    for output in outputs:
        text, raw = array("f", output["values"]), None
        dimensions = ".".join(str(length) for length in output["shape"])
        for file in sorted(folder.glob(f"*.output.{dimensions}.fp*.raw")):
            values = _floats_in(file, len(text))
            if len(values) == len(text) and all(map(_same, values, text)):
                raw = values
        found.append({**output, "raw": (text if raw is None else raw).tobytes(), "rounded": raw is None})
    for way in ("input", "output"):  # those of one run are not taken for those of the next
        for file in folder.glob(f"*.{way}.*.raw"):
            file.unlink()
    return found


def _floats_in(file: Path, count: int) -> array[float]:
    """The numbers of a raw file of float32 or float16, by its name; none where it does not hold as many."""
    content, kind = file.read_bytes(), "e" if file.name.endswith(".fp16.raw") else "f"
    if len(content) != count * struct.calcsize(kind):
        return array("f")
    return array("f", struct.unpack(f"<{count}{kind}", content))


def _same(exact: float, rounded: float) -> bool:
    return exact == rounded or math.isnan(exact) or abs(exact - rounded) <= SIX_DIGITS * abs(exact)


def read_json(path: Path) -> Any:
    """What stands in the file; C++'s nan and inf are read, and control characters in names."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise OnDeviceFailure("failed", f"trtexec ended well and left no {path.name}.") from None
    try:
        return json.loads(NOT_A_NUMBER.sub(_named, text), strict=False)
    except ValueError as error:
        raise OnDeviceFailure("failed", f"trtexec left {path.name}, which is no JSON: {error}.") from None


def _named(found: re.Match[str]) -> str:
    return "NaN" if found.group(2).lower() == "nan" else found.group(1) + "Infinity"


def _list_in(path: Path) -> list[dict[str, Any]]:
    found = read_json(path)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise OnDeviceFailure("failed", f"trtexec left {path.name}, which is no list of rows.")
    return found
