"""pytorch-quantization's fake quantizer, and the fence around its rough edges. No other file imports that package.

Fake quantization rounds to the integer grid and stays in float; its gradient passes where the value lay inside the
range (straight-through estimator; Jacob et al. 2018, arXiv:1712.05877, section 3).

    q(x) = s · clip( round(x / s), lowest, highest ),   s = amax / highest
    with a zero point (affine_quantizer.py)             lowest = −zero, highest = 255 − zero, s = amax / 255

The edges: absl logs a warning for each `amax` that is set or loaded, so its logger is told to keep to errors · a state
dict without the buffer makes loading call `.cuda()`, so the buffer always exists · its exporter knows 8-bit ranges only
and freezes scales through `.item()`, so for export each quantizer gives way to `GridPoint`, which writes the two ONNX
operators itself · `quant_modules.initialize()` patches torch globally and is never called · its calibrators import
SciPy's statistics (later_statistics.py).
"""

import functools
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from absl import logging as absl_logging
from torch import Tensor, nn

from pipeline.quantization.affine_quantizer import STEPS, AffineQuantizer
from pipeline.quantization.later_statistics import statistics_later
from pipeline.quantization.neighbours import is_depthwise, neighbour_sums

DEAD = 1e-4  # of the layer's largest weight: at 1e-5 ONNX Runtime's answers were still right, at 1e-7 they were not
HAIR = 1 + 2.0**-20  # more than float32 errs by
SMALLEST_AMAX = 1e-8  # a tensor that is always zero still needs a positive scale
SMALLEST_SPAN = 2.0**-20  # with a zero point: below 2⁻²⁴ the package answers 0 for every code, also for that of zero


@functools.cache
def package() -> tuple[type[nn.Module], Any]:
    """pytorch-quantization's `TensorQuantizer` and `QuantDescriptor`."""
    with statistics_later():
        from pytorch_quantization.nn import TensorQuantizer
        from pytorch_quantization.tensor_quant import QuantDescriptor
    return TensorQuantizer, QuantDescriptor


def tensor_quantizer(**settings: Any) -> nn.Module:
    """A quantizer of the package with these settings of its descriptor."""
    absl_logging.set_verbosity(absl_logging.ERROR)
    quantizer, descriptor = package()
    return quantizer(descriptor(**settings))


def activation_quantizer(*, amax: float, unsigned: bool) -> nn.Module:
    """An 8-bit quantizer of one scale: 0..255 when unsigned, else −128..127."""
    quantizer = tensor_quantizer(num_bits=8, unsigned=unsigned, narrow_range=False)
    quantizer.register_buffer("_amax", torch.tensor(max(amax, SMALLEST_AMAX)))
    return quantizer


def affine_quantizer(*, span: float, zero: int) -> nn.Module:
    """An 8-bit quantizer of codes 0..255 around a zero point; span: 255 steps."""
    return AffineQuantizer(activation_quantizer(amax=max(span, SMALLEST_SPAN), unsigned=True), zero=zero)


def weight_quantizer(weight: Tensor, *, bits: int, axis: int, paired: bool = False) -> nn.Module:
    """A symmetric quantizer with a scale per output channel: −63..63 for 7 bits, −127..127 for 8.

    paired: two neighbours of one sign add up to 128 at the most
    """
    quantizer = tensor_quantizer(num_bits=bits, axis=(axis,), narrow_range=True)
    quantizer.register_buffer("_amax", channel_amax(weight, axis=axis, paired=paired))
    return quantizer


@torch.no_grad()
def channel_amax(weight: Tensor, *, axis: int, paired: bool = False) -> Tensor:
    """The range of each channel, kept broadcastable: (K, 1, 1, 1) for axis 0 of (K, C, R, S).

    It is the largest magnitude; paired: or what two neighbours of one sign add up to (neighbours.py), if that is more.
    Their codes then add up to a hair less than 127 before they are rounded, each by at most 1: to 128 at most.

    A channel whose weights have died still gets a ten-thousandth of the layer's largest: with a scale near 0 its bias
    would be more steps than an int32 holds, and the runtime would add another one without a word.
    """
    others = [other for other in range(weight.dim()) if other != axis]
    amax = weight.detach().abs().amax(others, keepdim=True)
    if paired:
        sums = neighbour_sums(weight.detach().movedim(axis, 0), scattered=axis != 0)
        amax = torch.maximum(amax, HAIR * sums.reshape(amax.shape))
    return torch.maximum(amax, (DEAD * amax.max()).clamp_min(SMALLEST_AMAX))


class QuantizedWeight(nn.Module):
    """A convolution or linear layer whose weight passes through a quantizer.

    While training, the scale follows the weight, or is learned (learned_steps.py); in evaluation it is the one that
    was kept last, which is that of the weight when training ended: the last step of the optimizer has moved it.
    """

    def __init__(self, layer: nn.Module, *, bits: int, sums_in_16_bits: bool = False) -> None:
        super().__init__()
        self.layer = layer
        self.axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        self.paired = bits == 8 and sums_in_16_bits and not is_depthwise(layer)
        self.quantizer: Any = weight_quantizer(_weight(layer), bits=bits, axis=self.axis, paired=self.paired)
        self._followed = False  # since it was last kept

    def train(self, mode: bool = True) -> "QuantizedWeight":
        """Also keeps the scale when training ends."""
        if not mode and self._followed and is_quantizer(self.quantizer):
            self.quantizer._amax.copy_(self.least_amax())
            self._followed = False
        super().train(mode)
        return self

    def least_amax(self) -> Tensor:
        """The range that the layer's weight needs, (K, 1, …)."""
        return channel_amax(_weight(self.layer), axis=self.axis, paired=self.paired)

    def forward(self, inputs: Tensor) -> Tensor:
        weight = _weight(self.layer)
        if self.training and is_quantizer(self.quantizer):
            self.quantizer._amax.copy_(self.least_amax())
            self._followed = True
        return _applied(self.layer, inputs, self.quantizer(weight))


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _applied(layer: Any, inputs: Tensor, weight: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(inputs, weight, layer.bias)
    plain: Any = layer
    result: Tensor
    if isinstance(layer, nn.ConvTranspose2d):
        result = F.conv_transpose2d(
            inputs, weight, plain.bias, plain.stride, plain.padding, plain.output_padding, plain.groups, plain.dilation
        )
    else:
        result = plain._conv_forward(inputs, weight, plain.bias)
    return result


class _QuantizeDequantize(torch.autograd.Function):
    @staticmethod
    def symbolic(g: Any, inputs: Any, scale: Any, zero: Any, lowest: int, highest: int, axis: int | None) -> Any:
        where = {} if axis is None else {"axis_i": axis}
        integers = g.op("QuantizeLinear", inputs, scale, zero, **where)
        return g.op("DequantizeLinear", integers, scale, zero, **where).setType(inputs.type())

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, scale: Tensor, zero: Tensor, lowest: int, highest: int, axis: int | None
    ) -> Tensor:
        if axis is not None:
            scale = scale.reshape([-1 if other == axis else 1 for other in range(inputs.dim())])
        return (inputs / scale).round().clamp(lowest, highest) * scale


class GridPoint(nn.Module):
    """A quantizer with a constant scale and zero point, exported as QuantizeLinear and DequantizeLinear.

    lowest, highest: in steps from zero · steps: in the range that the quantizer keeps
    """

    def __init__(self, quantizer: Any) -> None:
        super().__init__()
        origin = 0
        if isinstance(quantizer, AffineQuantizer):
            quantizer, origin = quantizer.unsigned, int(quantizer.zero)
        self.unsigned = bool(quantizer._unsigned)
        self.axis: int | None = None
        amax = quantizer._amax.detach().float()
        if quantizer._axis is not None:
            self.axis = int(quantizer._axis[0])
            amax = amax.flatten()
        bits = int(quantizer._num_bits)
        self.steps = STEPS if self.unsigned else 2 ** (bits - 1) - 1
        self.highest = self.steps - origin
        self.lowest = -origin if self.unsigned else -self.steps - (0 if quantizer._narrow_range else 1)
        kind = torch.uint8 if self.unsigned else torch.int8
        self.register_buffer("scale", (amax / self.steps).clone())
        self.register_buffer("zero", torch.full(amax.shape, origin, dtype=kind))

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = _QuantizeDequantize.apply(inputs, self.scale, self.zero, self.lowest, self.highest, self.axis)  # type: ignore[no-untyped-call]
        return result


def exportable(module: nn.Module) -> nn.Module:
    """The network, in place, with every fake quantizer replaced by its constant `GridPoint`."""
    for name, child in list(module.named_children()):
        if is_quantizer(child):
            setattr(module, name, GridPoint(child))
        else:
            exportable(child)
    return module


def has_quantizers(module: nn.Module) -> bool:
    """Whether any fake quantizer stands in the network."""
    return any(isinstance(child, package()[0]) for child in module.modules())


def is_quantizer(module: nn.Module) -> bool:
    """Whether a module is a fake quantizer itself."""
    return isinstance(module, (package()[0], AffineQuantizer))


@contextmanager
def switched_off(quantizers: Collection[Any]) -> Iterator[None]:
    """Inside the block these quantizers pass on what they get; afterwards each is as it was."""
    were_off = [each._disabled for each in quantizers]
    try:
        for each in quantizers:
            each.disable()
        yield
    finally:
        for each, was_off in zip(quantizers, were_off, strict=True):
            each._disabled = was_off


def is_activation_point(module: nn.Module) -> bool:
    """Whether a module of an exportable network quantizes an activation."""
    return isinstance(module, GridPoint) and module.axis is None
