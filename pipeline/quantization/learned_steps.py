"""Learn the step size of every fake quantizer together with the weights.

Esser, McKinstry, Bablani, Appuswamy & Modha 2020, "Learned Step Size Quantization" (LSQ), arXiv:1902.08153, section 2.

    v̂ = s · round( clip( v / s, −Q_N, Q_P ) )
    ∂v̂/∂v = 1 where −Q_N < v / s < Q_P, else 0
    ∂v̂/∂s = round(v / s) − v / s there, −Q_N below, Q_P above;   times g = 1 / √(N · Q_P)

A zero point stays as it was calibrated: Q_N is z and Q_P is 255 − z, but for g, where Q_P is 255.

The scale g lets steps and weights change by like shares of themselves. It does so under SGD; a step of Adam is as long
as the learning rate whatever the gradient (at 3e-4, 1.3 % of s = 3 / 127). So what is trained here is a size p, with
s = s₀ · p / p₀: it begins at the root mean square of the network's weights, and Adam changes s by such a share as it
changes them. The gradient of p is g · p₀ / s₀ · ∂L/∂s, by which SGD changes s exactly as in the paper.

Steps begin as they were calibrated, not at s = 2 · mean|v| / √Q_P, and each channel of a weight has its own. A range
never falls below DEAD (fake_quant.py) of the largest that its tensor was calibrated with.

Letters: v value, v̂ its quantized value, s step size, s₀ calibrated, p size, p₀ at first, Q_N and Q_P codes below and
above 0, z zero point, L loss, K channels of a weight; N numbers that share an s: one channel of a weight, or an
activation without the batch.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.quantization.fake_quant import DEAD, SMALLEST_AMAX, GridPoint, QuantizedWeight, is_quantizer
from pipeline.quantization.recurrent_weights import QuantizedRecurrent


class LearnedSteps(nn.Module):
    """A fake quantizer whose step size is learned; its values are the quantizer's own, to the bit.

    start: p₀, a power of two, so that the first range is the calibrated one to the bit
    least: says what the range must not fall below while training, where that is more than its floor
    """

    unit: Tensor
    floor: Tensor

    def __init__(self, quantizer: Any, *, start: float = 0.125, least: Callable[[], Tensor] | None = None) -> None:
        super().__init__()
        self.quantizer, self.least = quantizer, least
        grid = GridPoint(quantizer)
        self.lowest, self.highest, self.per_channel = grid.lowest, grid.highest, grid.axis is not None
        self.steps = grid.steps
        calibrated = quantizer._amax.detach().float().flatten()  # (K,) or (1,): what has one dimension is not decayed
        self.size = nn.Parameter(torch.full_like(calibrated, start))
        self.register_buffer("unit", calibrated / start)  # the range is size · unit
        self.register_buffer("floor", (DEAD * calibrated.max()).clamp_min(SMALLEST_AMAX) / self.unit)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.quantizer._disabled:
            return inputs
        self.keep()
        if self.least is not None:
            self.lift(self.least())
        sharing = inputs.numel() // (len(self.size) if self.per_channel else max(len(inputs), 1))  # N
        result: Tensor = _LearnedRange.apply(inputs, self.size, self, sharing)  # type: ignore[no-untyped-call]
        return result

    @torch.no_grad()
    def keep(self) -> None:
        """Lift the range to its floor, and write it into the quantizer."""
        self.size.clamp_(min=self.floor)
        self.quantizer._amax.copy_((self.size * self.unit).reshape(self.quantizer._amax.shape))

    @torch.no_grad()
    def lift(self, least: Tensor) -> None:
        """Lift the range to `least`."""
        self.size.copy_(torch.maximum(self.size, least.flatten() / self.unit))
        self.keep()


class _LearnedRange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, size: Tensor, steps: LearnedSteps, sharing: int) -> Tensor:
        # A tensor may be quantized twice in one pass: nothing is kept that the second time would change.
        ctx.save_for_backward(inputs, steps.quantizer._amax.clone(), steps.unit)
        ctx.lowest, ctx.highest, ctx.steps, ctx.sharing = steps.lowest, steps.highest, steps.steps, max(sharing, 1)
        result: Tensor = steps.quantizer(inputs)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        inputs, amax, unit = ctx.saved_tensors
        place = inputs.float() * (ctx.steps / amax)  # v / s
        inside = (place > ctx.lowest) & (place < ctx.highest)
        slope = place.clamp(ctx.lowest, ctx.highest).round() - place * inside  # ∂v̂/∂s
        of_step = (gradients[0].float() * slope).sum_to_size(amax.shape).reshape(unit.shape)  # ∂L/∂s
        # g · p₀ / s₀, and the unit is s₀ · Q_P / p₀
        return gradients[0] * inside, of_step * (ctx.steps / ctx.sharing) ** 0.5 / unit, None, None


def with_learned_steps(module: nn.Module, *, weights: bool = False) -> nn.Module:
    """The network, in place, with learned steps for the quantizers of activations; `steps_fixed` undoes it.

    weights: also for those of weights, which follow the largest weight of each channel otherwise. With 7 bits that was
    worse in the one run tried (digits, 4 epochs, one seed): loss 0.2975; activations alone 0.2943, none 0.2952
    """
    _learn(module, start=power_of_two_near(weight_rms(module)), weights=weights)
    return module


def _learn(module: nn.Module, *, start: float, weights: bool) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, (LearnedSteps, QuantizedRecurrent)) or (
            isinstance(module, QuantizedWeight) and not weights
        ):
            continue
        if is_quantizer(child):
            least = module.least_amax if isinstance(module, QuantizedWeight) and module.paired else None
            setattr(module, name, LearnedSteps(child, start=start, least=least).train(child.training))
        else:
            _learn(child, start=start, weights=weights)


def weight_rms(module: nn.Module) -> float:
    """The root mean square of all weights that pass through a quantizer; 0 where there is none."""
    layers = [each.layer.weight for each in module.modules() if isinstance(each, QuantizedWeight)]
    flat = [weight.detach().double().flatten() for weight in layers if isinstance(weight, Tensor)]
    return float(torch.cat(flat).square().mean().sqrt()) if flat else 0.0


def power_of_two_near(value: float) -> float:
    """The power of two nearest to `value` in its exponent, from 2⁻¹⁰ to 1."""
    return 2.0 ** min(0, max(-10, round(math.log2(max(value, 2.0**-10)))))


def steps_fixed(module: nn.Module) -> nn.Module:
    """The network, in place, with plain quantizers that have the learned ranges: the same answers, to the bit."""
    for name, child in list(module.named_children()):
        if isinstance(child, LearnedSteps):
            child.keep()
            if child.least is not None:
                child.lift(child.least())
            setattr(module, name, child.quantizer)
            if isinstance(module, QuantizedWeight):
                _cut_to_range(module)
        else:
            steps_fixed(child)
    return module


@torch.no_grad()
def _cut_to_range(layer: QuantizedWeight) -> None:
    """Bring weights beyond the range to its ends, which they are quantized to anyway.

    ONNX knows no 7-bit range and none without −128: there a weight beyond ours would get a code beyond ours.
    """
    weight, amax = layer.layer.weight, layer.quantizer._amax
    assert isinstance(weight, Tensor)
    weight.copy_(torch.minimum(torch.maximum(weight, -amax), amax))
