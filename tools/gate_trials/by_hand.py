"""What one does by hand with the same seconds: one engine after the other, a process each, and a rule for the times.

    median of 100      the medians of 100 calls each, behind a warm-up; slower by more than the limit: regressed
    pytest-benchmark   `--benchmark-compare-fail=min:2%` and `median:2%`: the same of all calls that fit into the time
    google-benchmark   `compare.py` with repetitions: Mann and Whitney's U test on the repetitions' means, at 5 %, and a
                       regression where the medians of the repetitions say slower. (It knows no limit: any difference
                       that is certain counts.)

Each rule answers regressed or fine; none has a third answer. The times are of the time of day, as those tools take it
by default; pytest-benchmark and google-benchmark themselves are not run, their rules are applied to times taken as they
take them: the calls of one engine in a row, then those of the other.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu  # type: ignore[import-untyped]

from targets.engines.own_process import PACKAGES

REPETITIONS = 20  # of google-benchmark; its comparison wants nine or more
ALPHA = 0.05  # compare.py's own
CALLS = 100
RULES = ("median of 100", "pytest-benchmark min", "pytest-benchmark median", "google-benchmark U test")

PROGRAM = """
import json, sys
from functools import partial
from pathlib import Path
import numpy as np
from targets.engines.memory_probe import opened
from targets.stopwatch import now_s, sample_ms, settle
engine, inputs, runtime, threads, seconds = json.loads(sys.argv[1])
run = opened(Path(engine), threads=threads, runtime=runtime)
call = partial(run, np.load(inputs))
started = now_s()
settle(call, max_seconds=1.0)
times = list(sample_ms(call, count=100))
while now_s() - started < seconds:
    times += sample_ms(call, count=50)
print(json.dumps(times))
"""


def by_hand(
    engines: Sequence[Path], inputs: NDArray[np.float32], *, runtime: str, threads: int, seconds: float, limit: float
) -> dict[str, bool]:
    """Whether each rule calls the second engine slower than the first, from so many seconds in all."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "inputs.npy"
        np.save(asked, inputs)
        times = [
            np.asarray(_times([str(engine.resolve()), str(asked), runtime, threads, seconds / len(engines)]))
            for engine in engines
        ]
    return judged(times[0], times[1], limit=limit)


def judged(baseline_ms: NDArray[np.float64], candidate_ms: NDArray[np.float64], *, limit: float) -> dict[str, bool]:
    """Every rule's answer: True for regressed."""
    both = (baseline_ms, candidate_ms)
    hundred = [median(each[:CALLS]) for each in both]
    least, middle = [float(each.min()) for each in both], [float(np.median(each)) for each in both]
    means = [[float(part.mean()) for part in np.array_split(each, REPETITIONS)] for each in both]
    differ = mannwhitneyu(means[0], means[1], alternative="two-sided").pvalue < ALPHA
    return dict(
        zip(
            RULES,
            (
                bool(hundred[1] / hundred[0] > limit),
                bool(least[1] / least[0] > limit),
                bool(middle[1] / middle[0] > limit),
                bool(differ and median(means[1]) > median(means[0])),
            ),
            strict=True,
        )
    )


def _times(order: list[object]) -> list[float]:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(order)], cwd=PACKAGES, capture_output=True, text=True, check=True
    )
    found: list[float] = json.loads(ended.stdout)
    return found
