"""The watch over a job that runs: nobody waits for it any more, or its time is over, and it is stopped.

The other side writes a blank line to standard input every few seconds. The job is stopped when standard input ends
(the link was cut, the user pressed Ctrl-C), when nothing is heard for SILENT_S (the link is dead and nobody said so),
when its time is over, and when the device shuts down. Stopped means the job and all that it started: TERM first, so
that it can put back what it changed, such as clocks that it locked; KILL after GRACE_S.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from targets.on_device.events import emit
from targets.on_device.kept_files import SILENT_S

GRACE_S = 8
STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Watch:
    """Why the job must stop ("late", "gone"; "" while it need not), and what the other side asks for."""

    def __init__(self) -> None:
        self.asked: queue.Queue[bytes | None] = queue.Queue()
        self.heard_s = time.monotonic()
        self.why = ""

    def listen(self) -> None:
        """Read standard input to its end, in a thread of its own."""
        for line in iter(sys.stdin.buffer.readline, b""):
            self.heard_s = time.monotonic()
            if line.strip():
                self.asked.put(line)
        self.stop("gone")
        self.asked.put(None)

    def stop(self, why: str) -> None:
        """The first reason stays."""
        self.why = self.why or why

    def guard(self, child: subprocess.Popen[bytes], limit_s: float) -> None:
        """Until the job has ended; what it left running ends with it."""
        until_s = time.monotonic() + limit_s
        while child.poll() is None and not self.why:
            if time.monotonic() > until_s:
                self.stop("late")
            elif time.monotonic() - self.heard_s > SILENT_S:
                self.stop("gone")
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.1)
        if child.poll() is None:
            signal_group(child, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_S)
        signal_group(child, signal.SIGKILL)


def signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    """To the job and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def watched(command: list[str], place: Path, *, limit_s: float, watch: Watch) -> dict[str, Any]:
    """Run the job in its folder and pass on what it says; how it ended.

    {"how": "done"} with its result in the folder · {"how": "failed", "kind", "sentence"} · {"how": "late"} or "gone",
    stopped · {"how": "died", "code", "stderr"} without a word
    """
    with (place / "stderr").open("wb") as errors:
        child = subprocess.Popen(
            command, cwd=str(place), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
    for number in STOPS:
        signal.signal(number, lambda *_: watch.stop("gone"))
    guard = threading.Thread(target=watch.guard, args=(child, limit_s))
    guard.start()
    last: dict[str, Any] = {}
    assert child.stdout is not None
    for line in child.stdout:
        event = event_in(line)
        if event["event"] in ("done", "failed"):
            last = event
            continue
        try:
            emit(event)
        except OSError:
            watch.stop("gone")
    guard.join()
    if last.get("event") == "done" and child.returncode == 0 and (place / "result.json").is_file():
        return {"how": "done"}
    if watch.why:
        return {"how": watch.why}
    if last.get("event") == "failed":
        return {"how": "failed", "kind": last.get("kind"), "sentence": last.get("sentence")}
    told = (place / "stderr").read_bytes()[-2000:].decode("utf-8", "replace")
    return {"how": "died", "code": child.returncode, "stderr": told}


def event_in(line: bytes) -> dict[str, Any]:
    """A line of the job; what is no event is a remark."""
    text = line.decode("utf-8", "replace").strip()
    with suppress(ValueError):
        event = json.loads(text)
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            return event
    return {"event": "says", "text": text}
