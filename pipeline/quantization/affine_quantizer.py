"""A fake quantizer with a zero point, for tensors that reach further above zero than below it, or the other way.

Jacob et al. 2018, arXiv:1712.05877, section 2.1 and the nudged zero point of section 3.

    q(x) = u( max(x + c, 0) ) − c,   c = z · s       u: codes 0..255 of step s, from 0 on
         = s · ( clip( round(x / s) + z, 0, 255 ) − z )

pytorch-quantization's quantizers are symmetric or begin at 0, so an unsigned one of it stands between two shifts. c is
computed as u computes its own values, so that 0 stays exactly 0: padding, dead channels and pruned ones need that.
The gradient passes where 0 ≤ x + c ≤ 255 · s, and nowhere else.

Letters: s step, z zero point, c the shift.
"""

from typing import Any

import torch
from torch import Tensor, nn

STEPS = 255  # between 256 codes


class AffineQuantizer(nn.Module):
    """`unsigned` around a shift. To those who ask for its range or switch it off it looks like that quantizer.

    unsigned: a fake quantizer of 0..255 whose `_amax` is 255 · s
    """

    zero: Tensor

    def __init__(self, unsigned: nn.Module, *, zero: int) -> None:
        super().__init__()
        if not 0 <= zero <= STEPS:
            raise ValueError(f"a zero point is one of the codes 0..255, not {zero}")
        self.unsigned: Any = unsigned
        self.register_buffer("zero", torch.tensor(zero, dtype=torch.int32))

    def forward(self, inputs: Tensor) -> Tensor:
        if self._disabled:
            return inputs
        amax = self._amax.float()
        shift = self.zero / (amax.new_full((), STEPS) / amax)  # `STEPS / amax` is 1 / amax · STEPS in torch: other bits
        # In float32: half precision has too few digits for x + c.
        shifted: Tensor = self.unsigned((inputs.float() + shift).clamp_min(0)) - shift
        return shifted.to(inputs.dtype)

    @property
    def _amax(self) -> Tensor:
        amax: Tensor = self.unsigned._amax
        return amax

    @property
    def _disabled(self) -> bool:
        return bool(self.unsigned._disabled)

    @_disabled.setter
    def _disabled(self, value: bool) -> None:
        self.unsigned._disabled = value

    def disable(self) -> None:
        """Pass on what comes."""
        self.unsigned.disable()
