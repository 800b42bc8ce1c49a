"""The smallest and the largest value of a stream of tensors, and what they alone tell about it.

Every observer sees its values through this: one pass of `aminmax` finds the ends and NaN and infinity as well.
"""

import math

import torch
from torch import Tensor

from calibration.errors import LayerNotFinite, LayerRefused
from calibration.ranges import Range


class Extremes:
    """The ends of all values seen; two numbers, however many values."""

    def __init__(self) -> None:
        self.low = math.inf
        self.high = -math.inf

    def see(self, values: Tensor) -> None:
        """Take in the values of one tensor of any shape; an empty one changes nothing.

        Raises:
            LayerNotFinite: one of them is NaN or infinite.
        """
        if values.numel() == 0:
            return
        low, high = (float(end) for end in torch.aminmax(values.detach()))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise LayerNotFinite(
                "the observed values contain NaN or infinity, and no range holds them. Find the layer that gives them."
            )
        # + 0.0 turns −0.0 into 0.0: which of the two a minimum gives depends on the order of the values.
        self.low = min(self.low, low + 0.0)
        self.high = max(self.high, high + 0.0)

    @property
    def amax(self) -> float:
        """The largest magnitude seen."""
        return max(abs(self.low), abs(self.high))

    def range(self, *, affine: bool = False, behind: object = None) -> Range:
        """From the smallest to the largest value seen, whatever the codes are and whoever reads it.

        Raises:
            LayerRefused: nothing was seen.
        """
        if self.low > self.high:
            raise LayerRefused("no value was observed, so there is no range. Run the network on at least one sample.")
        return Range(self.low, self.high)

    def notes(self) -> tuple[str, ...]:
        """Whether the values are all the same."""
        if self.low == self.high == 0.0:
            return ("dead (always 0)",)
        return (f"constant (always {self.low!r})",) if self.low == self.high else ()
