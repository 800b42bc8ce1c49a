"""Answers of a TensorRT plan, for `run.py` beside this file: one job of on_device.pyz for all inputs.

A plan holds code, and runs on the TensorRT and the kind of GPU that it was built with. So nothing of it is opened
before its digest is that of manifest.json; on_device.pyz then compares what built it (engine.plan.json) with this
device.

Stands in a bundle: Python 3.8 or later and numpy.

Letters: N inputs.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

PART = "on_device.pyz"


class PlanRefused(Exception):
    """The message is the end of a sentence: why the plan gives no answers here."""


def plan_answers(
    samples: Iterable[npt.NDArray[Any]], *, manifest: dict[str, Any], bundle: Path
) -> tuple[list[dict[str, npt.NDArray[Any]]], list[str]]:
    """The outputs by name for each sample, in order, and what the device remarks.

    Raises:
        PlanRefused: there is no TensorRT, or another than the one that built it; or the plan is missing or changed.
    """
    name = str(manifest["engine"]["file"])
    built = built_by(bundle, name, manifest)
    with tempfile.TemporaryDirectory(prefix="run-") as place:
        folder, count = Path(place), 0
        dtype = np.dtype(str(manifest["input"].get("dtype") or "float32"))
        with (folder / "inputs.raw").open("wb") as file:
            for sample in samples:
                file.write(np.ascontiguousarray(sample, dtype.newbyteorder("<")).tobytes())
                count += 1
        if count == 0:
            return [], []
        entry = {
            "name": manifest["input"]["name"], "dtype": dtype.name, "file": "inputs.raw",
            "shape": [count, *manifest["input"]["shape"][1:]],
        }  # fmt: skip
        job = {"runtime": "tensorrt", "engine": name, "inputs": [entry], "count": count, "settings": {}}
        (folder / "job.json").write_text(json.dumps({**job, "identity": built}), encoding="utf-8")
        (folder / name).symlink_to(bundle / name)
        remarks = done(folder, bundle / PART)
        outputs = outputs_in(folder, [str(each["name"]) for each in manifest.get("outputs", [])])
    return [{name: array[at : at + 1] for name, array in outputs.items()} for at in range(count)], remarks


def built_by(bundle: Path, name: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """The identity of what built the plan, which is the one that the manifest lists."""
    if not (bundle / PART).is_file():
        raise PlanRefused(f"{PART}, which asks it, is not beside it")
    try:
        identity = json.loads((bundle / f"{name}.json").read_text(encoding="utf-8"))["identity"]
        content = (bundle / name).read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlanRefused(f"{name} and {name}.json must both be there and whole ({error})") from error
    if not isinstance(identity, dict):
        raise PlanRefused(f"{name}.json does not say what built it")
    if not {"name", "shape"} <= set(manifest["input"]):
        raise PlanRefused("manifest.json does not say what it takes")
    listed = (manifest.get("files") or {}).get(name)
    if listed != hashlib.sha256(content).hexdigest():
        raise PlanRefused("its digest is not the one in manifest.json")
    return identity


def done(folder: Path, part: Path) -> list[str]:
    """Do the job in a process of its own, which a plan may end; gives what is remarked there."""
    command = [sys.executable, "-B", str(part), "answer", str(folder)]
    ended = subprocess.run(command, cwd=str(folder), capture_output=True, stdin=subprocess.DEVNULL, check=False)
    events = [event_of(line) for line in ended.stdout.splitlines()]
    last = events[-1] if events else {}
    if last.get("event") != "done":
        complaints = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        said = last.get("sentence") or (complaints or [f"the process that asked it ended with {ended.returncode}"])[-1]
        raise PlanRefused(str(said).rstrip("."))
    return [str(event["text"]) for event in events if event.get("event") == "says"]


def event_of(line: bytes) -> dict[str, Any]:
    """A line of the job; what is no event says nothing."""
    try:
        event = json.loads(line.decode("utf-8", "replace"))
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def outputs_in(folder: Path, names: list[str]) -> dict[str, npt.NDArray[Any]]:
    """The outputs (N, …) in the order of the manifest."""
    found = {}
    try:
        for each in json.loads((folder / "result.json").read_text(encoding="utf-8"))["outputs"]:
            kind = np.dtype(str(each["dtype"])).newbyteorder("<")
            content = (folder / Path(str(each["file"])).name).read_bytes()
            found[str(each["name"])] = np.frombuffer(content, kind).reshape(each["shape"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlanRefused(f"its answers cannot be read ({error})") from error
    return {name: found[name] for name in names} if names and set(names) <= set(found) else found
