"""What an engine file says about itself: which runtime wrote it, for which processor, and a digest of its bytes.

The stamp is appended to what the runtime wrote. Behind an ONNX file it is the last entry of the model's own metadata:
protocol buffers merge messages that stand one after the other, and the runtime reads the whole as one model. Other
runtimes are given what stands before it. It is checked before the runtime sees a byte: a graph laid out for another
processor can answer wrongly instead of failing.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from targets.errors import EngineRefused
from targets.reach.local import Machine

KEY = "edge_compress.stamp"


@dataclass(frozen=True)
class Stamp:
    """Where an engine file was built."""

    runtime: str
    architecture: str
    cpu_features: tuple[str, ...]
    threads: int  # what it was built for; it may be opened with another number


def append_stamp(path: Path, stamp: Stamp) -> None:
    """Put the stamp behind the model in this file."""
    import onnx  # here, because reading needs none: the memory probe measures a process without it

    model = path.read_bytes()
    facts = {**asdict(stamp), "bytes": len(model), "sha256": hashlib.sha256(model).hexdigest()}
    entry = onnx.StringStringEntryProto(key=KEY, value=json.dumps(facts))
    with path.open("ab") as file:
        file.write(onnx.ModelProto(metadata_props=[entry]).SerializeToString())


def read_stamp(path: Path) -> Stamp:
    """The stamp of this file, after its digest was found right; raises like `read_stamped`."""
    return read_stamped(path)[0]


def read_stamped(path: Path) -> tuple[Stamp, bytes]:
    """The stamp of this file and what stands before it, after its digest was found right.

    Raises:
        EngineRefused: not an engine of ours, cut off, or changed since it was written.
    """
    try:
        written = path.read_bytes()
    except OSError as error:
        raise EngineRefused(f"The engine {path} cannot be read: {error.strerror}.") from error
    _, found, tail = written.rpartition(KEY.encode())
    if not found:
        raise EngineRefused(
            f"{path} is not an engine that was built here, or its end is missing. Build it from its ONNX."
        )
    try:
        facts = json.loads(tail[tail.index(b"{") :])
        model = written[: facts["bytes"]]
        sound = hashlib.sha256(model).hexdigest() == facts["sha256"]
        stamp = Stamp(facts["runtime"], facts["architecture"], tuple(facts["cpu_features"]), facts["threads"])
    except (ValueError, KeyError, TypeError) as error:
        raise EngineRefused(f"The stamp of the engine {path} is damaged. Build it again from its ONNX.") from error
    if not sound:
        raise EngineRefused(f"The engine {path} was changed since it was built (digest differs). Build it again.")
    return stamp, model


def refuse_foreign(stamp: Stamp, *, path: Path, runtime: str, machine: Machine) -> None:
    """Pass an engine that was built by this runtime for this kind of processor.

    Raises:
        EngineRefused: naming what differs.
    """
    if stamp.runtime != runtime:
        raise EngineRefused(
            f"The engine {path} was built by {stamp.runtime}; installed is {runtime}. Build it again from its ONNX."
        )
    if stamp.architecture != machine.architecture:
        raise EngineRefused(
            f"The engine {path} was built on {stamp.architecture}; this machine is {machine.architecture}. "
            "Build it here from its ONNX."
        )
    theirs, ours = set(stamp.cpu_features), set(machine.cpu_features)
    if theirs != ours:
        differs = ", ".join(
            [f"+{name}" for name in sorted(theirs - ours)] + [f"-{name}" for name in sorted(ours - theirs)]
        )
        raise EngineRefused(
            f"The engine {path} was built on a processor with other features than this one ({differs}). "
            "Build it here from its ONNX."
        )
