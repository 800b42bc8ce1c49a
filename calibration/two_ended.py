"""Both ends of a range whose codes have a zero point, where the mean squared error of quantization is smallest.

    error(l, h) = Σ_x ( f(q(x)) − f(x) )²,   q: the 256 codes of scale.py from l to h

f is the function that alone reads the tensor, or none. It decides what an end is worth: LeakyReLU of slope 0.1 leaves a
hundredth of the squared error below zero, so its input may be cut there long before it is cut above.

The sum runs over a histogram, each bin at its centre. Both ends are drawn in together first, then each on its own in
turns until neither moves, by a factor of 2^(1/4) at a time; at last each is tried between its neighbours.

Letters: l low end, h high end, n bins, q quantized value.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.ranges import Range

Function = Callable[[Tensor], Tensor]  # of each value on its own
Values = NDArray[np.float64]
FACTORS: Values = 2.0 ** (-np.arange(33, dtype=np.float64) / 4)  # from the full range down to a 256th of it
ROUNDS = 4  # a bound: it ends once neither end moves
SMALLEST = 1e-30  # a step that can be divided by
BETWEEN = 17  # factors of the last round


def ends_of_least_error(values: Values, counts: Values, *, steps: int = 255, behind: Function | None = None) -> Range:
    """The range for values (n,) that occur `counts` (n,) times; zero lies in it.

    steps: between the codes · behind: f
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    wanted = _through(behind, values)  # (n,)

    def error(factors: tuple[float, float]) -> float:
        step = max((factors[1] * high - factors[0] * low) / steps, SMALLEST)
        zero = min(max(round(-factors[0] * low / step), 0), steps)
        codes = np.clip(np.rint(values / step) + zero, 0, steps).astype(np.int64)  # (n,)
        table = _through(behind, (np.arange(steps + 1, dtype=np.float64) - zero) * step)
        return float((counts * (table[codes] - wanted) ** 2).sum())

    # Of equals, min takes the first: the widest.
    factors = min(((float(each), float(each)) for each in FACTORS), key=error)
    for _ in range(ROUNDS):
        before = factors
        factors = _each_alone(factors, FACTORS, FACTORS, error)
        if factors == before:
            break
    factors = _each_alone(factors, _near(factors[0]), _near(factors[1]), error)
    return Range(factors[0] * low, factors[1] * high)


def _each_alone(
    factors: tuple[float, float], lows: Values, highs: Values, error: Callable[[tuple[float, float]], float]
) -> tuple[float, float]:
    low, high = factors
    low = min((low, *lows.tolist()), key=lambda each: error((each, high)))
    return low, min((high, *highs.tolist()), key=lambda each: error((low, each)))


def _near(factor: float) -> Values:
    return np.minimum(factor * 2.0 ** np.linspace(0.25, -0.25, BETWEEN), 1.0)


def _through(behind: Function | None, values: Values) -> Values:
    if behind is None:
        return values
    with torch.no_grad():
        found: Values = behind(torch.tensor(values, dtype=torch.float32)).double().numpy()  # a copy: f may be in place
    return found
