"""A network is asked one input at a time, as in service; on a device elsewhere that is done there, in one job."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.engines.elsewhere import Afar
from targets.runner import Runner

MOST_BYTES = 256_000_000  # of the inputs of one job
BYTES_OF_A_NUMBER = 4


def answers_one_by_one(runner: Runner, inputs: NDArray[Any]) -> NDArray[Any]:
    """The answer to each input, (N, …) → (N, …)."""
    if isinstance(runner, Afar):
        return runner(inputs)
    return np.concatenate([runner(inputs[place : place + 1]) for place in range(len(inputs))])


def at_once(runner: Runner, here: int, *, shape: Sequence[int]) -> int:
    """How many inputs of this shape to hold ready for a runner: `here` on this machine; a job is worth more of them."""
    if not isinstance(runner, Afar):
        return here
    return max(here, MOST_BYTES // (BYTES_OF_A_NUMBER * math.prod(shape)))
