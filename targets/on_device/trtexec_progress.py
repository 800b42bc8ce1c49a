"""How far a builder is, from its verbose lines: how many layers have had a kernel timed, of those left after fusion."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from targets.on_device.events import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from targets.on_device.trtexec_log import Log

SECONDS_BETWEEN = 0.5


def told(log: Log) -> Callable[[], None]:
    """A call that tells the progress of this log, now and then."""
    last = [time.monotonic(), 0.0]

    def tell() -> None:
        now, done = time.monotonic(), len(log.tuned)
        if done > last[1] and now - last[0] >= SECONDS_BETWEEN:
            last[:] = [now, float(done)]
            progress(done, max(done, log.layer_count), "layers tuned")

    return tell
