"""What a child process does with the Python package `tensorrt`: one thing, and ends.

    main(["times", "times.asked.json", "times.left.json"])

A failure with a sentence is left in the result's place: {"failed": kind, "sentence": …}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.on_device.cudart import open_cuda
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.main import write_whole
from targets.on_device.tensor_rt_answers import Batches, Collected
from targets.on_device.tensor_rt_builder import built
from targets.on_device.tensor_rt_session import Session, open_session

if TYPE_CHECKING:
    from collections.abc import Callable


def main(arguments: list[str]) -> int:
    """Do it; 0 where its result, or its failure in a sentence, has been left."""
    name, request, left = arguments
    asked = json.loads(Path(request).read_text(encoding="utf-8"))
    try:
        found = ASKED[name](asked, Path(request).parent)
    except OnDeviceFailure as failure:
        found = {"failed": failure.kind, "sentence": failure.sentence}
    write_whole(Path(left), json.dumps(found).encode())
    return 0


def build(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """{"information"}, and on which GPU."""
    found = built(asked, folder)
    try:
        return {**found, **open_cuda().device()}
    except OnDeviceFailure:  # the engine is there all the same; the facts may know the GPU
        return found


def answer(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Every batch, one after the other."""
    session = _session(asked, folder)
    batches, collected = Batches({**asked, "settings": {"batch": session.batch}}, folder), Collected(folder)
    for index in range(len(batches)):
        outputs = session.answer({row["name"]: batches.content(row, index) for row in batches.inputs})
        collected.add(outputs, kept=batches.kept(index))
        batches.progress(index)
    return {"outputs": collected.close()}


def times(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The times of single runs."""
    session = _session(asked, folder)
    _filled(session, asked, folder)
    return session.times(asked["settings"], transfers=asked["transfers"], graph=asked["graph"])


def layers(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The median time of each layer, and what the inspector says of it."""
    session = _session(asked, folder)
    _filled(session, asked, folder)
    return {"information": session.information(), "median_ms": session.layer_times(asked.get("settings") or {})}


def memory(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the used memory of the GPU grew by."""
    cuda = open_cuda()
    before = cuda.used_bytes()
    session = _session(asked, folder)
    _filled(session, asked, folder)
    session.run()
    return {"gpu_bytes": cuda.used_bytes() - before}


def _session(asked: dict[str, Any], folder: Path) -> Session:
    return open_session(folder / asked["engine"], open_cuda())


def _filled(session: Session, asked: dict[str, Any], folder: Path) -> None:
    """The first batch lies on the GPU; zeros where the job brings no inputs."""
    rows = asked.get("inputs") or []
    batches = Batches({**asked, "settings": {"batch": session.batch}}, folder) if rows else None
    session.fill({row["name"]: batches.content(row, 0) for row in rows} if batches else {})


ASKED: dict[str, Callable[[dict[str, Any], Path], dict[str, Any]]] = {
    "build": build, "answer": answer, "times": times, "layers": layers, "memory": memory,
}  # fmt: skip
