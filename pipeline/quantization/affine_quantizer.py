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
        result: Tensor = _Shifted.apply(inputs, self.zero, self._amax.float(), self.unsigned)  # type: ignore[no-untyped-call]
        return result

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


class _Shifted(torch.autograd.Function):
    """One step for autograd: of 4 million values, forward and back, 29 ms; step by step 41; a symmetric one 21."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, zero: Tensor, amax: Tensor, unsigned: Any) -> Tensor:
        shift = zero / (amax.new_full((), STEPS) / amax)  # `STEPS / amax` is 1 / amax · STEPS in torch: other bits
        ctx.save_for_backward(inputs, shift, amax)
        # In float32: half precision has too few digits for x + c.
        result: Tensor = unsigned((inputs.float() + shift).clamp_min_(0)).sub_(shift).to(inputs.dtype)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        inputs, shift, amax = ctx.saved_tensors
        shifted = inputs.float() + shift
        return gradients[0] * ((shifted >= 0) & (shifted <= amax)), None, None, None
