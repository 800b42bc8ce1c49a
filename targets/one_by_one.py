"""A network is asked one input at a time, as in service; on a device elsewhere that is done there, in one job."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.engines.elsewhere import Afar
from targets.runner import Runner


def answers_one_by_one(runner: Runner, inputs: NDArray[Any]) -> NDArray[Any]:
    """The answer to each input, (N, …) → (N, …)."""
    if isinstance(runner, Afar):
        return runner(inputs)
    return np.concatenate([runner(inputs[place : place + 1]) for place in range(len(inputs))])


def at_once(runner: Runner, here: int) -> int:
    """How many inputs to hold ready for a runner: `here` on this machine; a job is worth more of them."""
    return 4096 if isinstance(runner, Afar) else here
