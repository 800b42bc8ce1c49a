"""Two engine files of one network, timed in turns: which answers sooner, and how sure that is."""

from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from targets.measurement import Pairs
from targets.runner import Engine
from targets.stopwatch import count_for, sample_pairs_ms, settle

SAMPLING_S = 1.5  # per engine; between 299 and 2 000 samples
WARMING_S = 3.0


def timed_side_by_side(
    engine: Engine, *, reference: Path, candidate: Path, inputs: NDArray[np.float32], threads: int, seed: int
) -> Pairs:
    """Latencies of both files on the same input, taken in turns.

    inputs: one batch, (1, …)
    """
    with (
        closing(engine.open(reference, threads=threads)) as first,
        closing(engine.open(candidate, threads=threads)) as second,
    ):
        _, reference_ms = settle(lambda: first(inputs), max_seconds=WARMING_S)
        _, candidate_ms = settle(lambda: second(inputs), max_seconds=WARMING_S)
        count = count_for(max(reference_ms, candidate_ms), seconds=SAMPLING_S)
        before, after = sample_pairs_ms(lambda: first(inputs), lambda: second(inputs), count=count, seed=seed)
    return Pairs(before, after)
