"""Load on every core: a program each that multiplies matrices, sorts and copies, as other jobs of a CI machine do."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from targets.reach.local import usable_cores

BURNER = """
import os
import numpy as np
parent = os.getppid()
a, b = np.random.default_rng(0).random((256, 256)), np.random.default_rng(1).random(4_000_000)
while os.getppid() == parent:  # whoever started it may be killed
    for _ in range(20):
        a @ a
    b.copy().sort()
    b * 2
"""


@contextmanager
def loaded(cores: int | None = None) -> Iterator[None]:
    """So many programs at work meanwhile; default: one for each core."""
    one = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    count = usable_cores() if cores is None else cores
    burners = [subprocess.Popen([sys.executable, "-c", BURNER], env=one) for _ in range(count)]
    try:
        yield
    finally:
        for each in burners:
            each.kill()
            each.wait()
