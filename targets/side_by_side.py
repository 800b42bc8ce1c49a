"""Several engine files of one network, timed in turns: which answers sooner, and how sure that is."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from targets.engines.elsewhere import SAMPLES, Elsewhere
from targets.runner import Engine
from targets.stopwatch import count_for, sample_turns_ms, settle

SAMPLING_S = 1.5  # per engine; between 299 and 2 000 samples
WARMING_S = 3.0


def timed_in_turns(
    entries: Sequence[tuple[Engine, Path]],
    *,
    inputs: NDArray[np.float32],
    threads: int,
    seed: int,
    rounds: int | None = None,
    warming_s: float = WARMING_S,
) -> tuple[tuple[float, ...], ...]:
    """The latencies of each engine file on the same input in ms, taken in turns; sample i of each in the same round.

    entries: a runtime and its file · inputs: one batch, (1, …)
    rounds: how many; None: as many as fit into 1.5 s for each, and at least the 299 that bound a p99
    """
    first = entries[0][0]
    if isinstance(first, Elsewhere):  # on a device its own engines alone are timed
        paths = [path for _, path in entries]
        return first.times(paths, inputs, threads=threads, seed=seed, samples=rounds or SAMPLES).samples_ms
    with ExitStack() as opened:
        calls = [
            partial(opened.enter_context(closing(engine.open(path, threads=threads))), inputs)
            for engine, path in entries
        ]
        slowest_ms = max(settle(call, max_seconds=warming_s)[1] for call in calls)
        count = count_for(slowest_ms, seconds=SAMPLING_S) if rounds is None else rounds
        return sample_turns_ms(calls, count=count, seed=seed)
