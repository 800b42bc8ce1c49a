"""Files as they go to a device and come back: known by their content, whole or not at all."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from targets.errors import DeviceFull, DeviceLost, EngineFailed
from targets.reach.conversation import Conversation
from targets.whole_file import write_whole

CHUNK = 1 << 20
OURS = ("job.json", "result.json", "job.lock", "stderr", "on_device.pyz")

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Content:
    """A file to send. path: None where its bytes are given"""

    name: str
    sha256: str
    size: int
    path: Path | None = None
    held: bytes = b""


def content_of(name: str, given: Path | bytes) -> Content:
    """What a file holds, read once."""
    if isinstance(given, bytes):
        return Content(name, hashlib.sha256(given).hexdigest(), len(given), held=given)
    digest = hashlib.sha256()
    with given.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        return Content(name, digest.hexdigest(), file.tell(), path=given)


def checked_name(name: str) -> str:
    """A name inside a job's folder that is none of the keeper's own."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or name in ("", ".", *OURS):
        raise ValueError(f"{name!r} is no name for a file of a job")
    return name


def digest_of(what: str, job: Mapping[str, Any], contents: Iterable[Content]) -> str:
    """Of a job and all that goes with it: the same digest, the same result."""
    files = {content.name: content.sha256 for content in contents}
    return hashlib.sha256(json.dumps([what, job, files], sort_keys=True).encode()).hexdigest()[:20]


def send(talk: Conversation, contents: Sequence[Content], on_event: OnEvent) -> None:
    """Send files, each from where an earlier attempt was cut.

    Raises:
        DeviceFull: they do not fit there.
        DeviceLost: the link was cut, or a file changed on its way.
    """
    shown = talk.transport.shown
    for content in contents:
        event = talk.event()
        if event["event"] == "from":
            _pour(talk, content, event["bytes"], on_event)
            event = talk.event()
        if event["event"] == "done":
            continue
        said = event.get("sentence", "it did not say why")
        if event.get("kind") == "full":
            raise full(shown, said)
        raise DeviceLost(f"{shown} could not keep {content.name}: {said}")


def _pour(talk: Conversation, content: Content, start: int, on_event: OnEvent) -> None:
    if content.path is None:
        talk.send(content.held[start:])
        return
    what = f"bytes of {content.name} sent to {talk.transport.shown}"
    with content.path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(CHUNK):
            if not talk.send(chunk):
                return
            on_event({"event": "progress", "done": min(file.tell(), content.size), "of": content.size, "what": what})


def bring_back(talk: Conversation, name: str, into: Path) -> None:
    """Bring a file of the job back under its own name.

    Raises:
        EngineFailed: the job has left no such file.
        DeviceLost: the link was cut, or the file changed on its way.
    """
    shown = talk.transport.shown
    talk.ask({"give": checked_name(name)})
    event = talk.event()
    if event["bytes"] is None:
        raise EngineFailed(f"{shown}: the job ended well, and has left no file {name}.")

    def write(beside: Path) -> None:
        left, digest = event["bytes"], hashlib.sha256()
        with beside.open("wb") as file:
            while left:
                chunk = talk.read(min(left, CHUNK))
                file.write(chunk)
                digest.update(chunk)
                left -= len(chunk)
        if digest.hexdigest() != event["sha256"]:
            raise DeviceLost(f"The file {name} of {shown} changed on its way here.")

    write_whole(into / name, write)


def full(shown: str, said: str) -> DeviceFull:
    """The sentence for a device without space."""
    return DeviceFull(
        f"No space is left on {shown}: {said} Make room there, and start again; `compress devices clean {shown}` "
        "removes what we have left there."
    )
