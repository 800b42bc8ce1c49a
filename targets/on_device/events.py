"""What the device says while it works: one JSON object per line on stdout.

{"event": "progress", "done": 3, "of": 10, "what": "answers"}
{"event": "says", "text": "the clocks cannot be locked: sudo asks for a password"}
{"event": "failed", "kind": "refused", "sentence": "…"}        the last line of a job that failed
{"event": "done"}                                              the last line of one that did not
"""

from __future__ import annotations

import json
import sys
from typing import Any


def progress(done: int, of: int, what: str) -> None:
    """How far the job is."""
    emit({"event": "progress", "done": done, "of": of, "what": what})


def says(text: str) -> None:
    """A remark for the user of the other side."""
    emit({"event": "says", "text": text})


def emit(event: Any) -> None:
    """One line, at once: the other side shows it while the job goes on."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()
