"""Give each channel of a quantized network the mean that it has in the float network, behind its activation function.

Nagel, van Baalen, Blankevoort & Welling 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", arXiv:1906.04721, section 4.2; the empirical form of its appendix D, with two changes:

    b ← b + d,   E[ r ] = 0,   r = cut( f(float output) − f(quantized output + d), ±c ),   per output channel

Rounding errors of the weights do not average out over a layer's inputs, because activations behind a ReLU have a mean
that is not 0: the error's mean is carried on to every later layer. Layers are corrected in the order of the graph, each
with all before it quantized and corrected. The last layer stays float and is corrected too: its input is quantized.

The paper compares the means before f, the function behind the layer. What f cuts off counts there, and nowhere else: a
channel that is far below 0 most of the time was moved for an error that no layer sees.

And it lets a few huge differences move a whole channel: those of values that a range was chosen to cut off. In the last
blocks of MobileNetV2 these were half of all energy, mattered little to the answers, and the shift that made up for
their mean doubled the error. So differences count up to c, WIDE root mean squares of what is left of them so cut.

Error of the answers of calibrated networks (mean squared error over variance), on the inputs of the correction and on
32 others; 32 photographs, for MobileNetV1-0.25 100, for SqueezeNet 64; weights of 7 bits (the script was not kept):

    not corrected    means behind f    the same, cut
    0.035  0.044     0.027  0.042      0.015  0.023     MobileNetV2
    0.112  0.100     0.044  0.043      0.047  0.043     MobileNetV1-0.25
    0.0049 0.0053    0.0026 0.0033     0.0027 0.0033    SqueezeNet

Means before f made the error of MobileNetV2 twice as large as without correction, on 100 photographs.

d is found by Newton's method, with the slope of the left side as it is measured; STEPS of it.

Letters: b bias, d its correction, E mean over samples and positions, f activation function, r difference, c its bound,
C channels.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from calibration.observe import evaluating
from calibration.samples import Samples
from calibration.two_ended import Function
from pipeline.quantization.fake_quant import QuantizedWeight
from pipeline.quantization.functions_behind import function_after
from pipeline.quantization.walk import LayerTold, Walk, fitting, same_layers, samples_of, weighted_once

STEPS = 3  # after two of them the means of a small network agreed to 1e-7
NUDGE = 0.02  # of a channel's size: how far it is moved to measure the slope
FLAT = 0.02  # a channel of which f lets less through stays as it is
LEAST_SLOPE, FURTHEST = 0.1, 0.5  # bound a step: the second in sizes of the channel
WIDE = 3.0  # with 2 and 5 errors were within a seventh of these, in a form that minimised squares instead
CUTS = 6  # where one difference in a hundred is huge, each brings the bound down to 0.3 of what it was


@dataclass(frozen=True)
class CorrectedBias:
    """A layer, and the root mean square over its channels of what was added to its bias."""

    layer: str
    shift_rms: float


@torch.no_grad()
def biases_corrected(
    graph: fx.GraphModule,
    *,
    reference: fx.GraphModule,
    inputs: Samples | Tensor,
    batch: int = 16,
    told: LayerTold | None = None,
) -> tuple[CorrectedBias, ...]:
    """Correct the quantized graph, in place, towards `reference`, the float graph it was made from.

    inputs: some hundred that the network may meet; labels are not needed. Of large ones no more are used than walk.py
        holds at once

    A layer without a bias, which no batch norm was folded into, stays as it is: a new bias would be a new tensor in the
    file of weights. So does a layer that is called twice: its two calls want two biases.

    Raises:
        ValueError: the two graphs are not twins, or share weights.
    """
    same_layers(graph, reference)
    samples = samples_of(inputs)
    layers = {name: plain for name, layer in weighted_once(graph).items() if (plain := _plain(layer)).bias is not None}
    corrected = []
    with evaluating(graph), evaluating(reference):
        samples = fitting(reference, samples)
        quantized_walk, float_walk = Walk(graph, samples, batch=batch), Walk(reference, samples, batch=batch)
        for number, (name, layer) in enumerate(layers.items()):
            if told is not None:
                told(number, len(layers), name)
            function = function_after(graph, name) or _unchanged
            wanted = [_channels_second(each, layer) for each in float_walk.outputs_of(name)]  # (N, C, …) each
            given = [_channels_second(_output(graph, name, each), layer) for each in quantized_walk.inputs_of(name)]
            shift = _shift(given, wanted, function)  # (C,)
            layer.bias.add_(shift.to(layer.bias))
            corrected.append(CorrectedBias(name, float(shift.square().mean().sqrt())))
    return tuple(corrected)


def _shift(given: Sequence[Tensor], wanted: Sequence[Tensor], function: Function) -> Tensor:
    """d, as above (C,). given, wanted: of a layer, quantized and float, before f; (N, C, …) each."""
    size = _mean(one.square() for one in given).sqrt()
    bound = _bound(given, wanted, function)
    nudge = NUDGE * size + 1e-6
    shift = torch.zeros_like(size)
    for _ in range(STEPS):
        missing = _mean(_cut(each, bound) for each in _differences(given, wanted, function, shift))
        further = shift + nudge
        slope = _mean(function(one + _on(further, one)) - function(one + _on(shift, one)) for one in given) / nudge
        step = missing / slope.clamp_min(LEAST_SLOPE)
        shift = shift + torch.where(slope < FLAT, 0.0, step.clamp(-FURTHEST * size, FURTHEST * size))
    return shift


def _bound(given: Sequence[Tensor], wanted: Sequence[Tensor], function: Function) -> Tensor:
    """c (C,)."""
    bound = torch.full((given[0].shape[1],), float("inf"), dtype=given[0].dtype, device=given[0].device)
    for _ in range(CUTS):
        differences = _differences(given, wanted, function, torch.zeros_like(bound))
        bound = WIDE * _mean(_cut(each, bound).square() for each in differences).sqrt()
    return bound


def _differences(
    given: Sequence[Tensor], wanted: Sequence[Tensor], function: Function, shift: Tensor
) -> Iterator[Tensor]:
    return (function(other) - function(one + _on(shift, one)) for one, other in zip(given, wanted, strict=True))


def _cut(values: Tensor, bound: Tensor) -> Tensor:
    ends = _on(bound, values)
    return torch.minimum(torch.maximum(values, -ends), ends)


def _on(vector: Tensor, values: Tensor) -> Tensor:
    """A number for each channel in a shape that broadcasts against (N, C, …)."""
    return vector.reshape(-1, *[1] * (values.dim() - 2))


def _mean(batches: Iterable[Tensor]) -> Tensor:
    """Of each channel over all batches (N, C, …), summed in float64, in their precision (C,)."""
    sums, count, precision = torch.zeros(()), 0, torch.float32
    for batch in batches:
        others = [axis for axis in range(batch.dim()) if axis != 1]
        sums, precision = sums + batch.sum(others, dtype=torch.float64), batch.dtype
        count += batch.numel() // batch.shape[1]
    return (sums / count).to(precision)


def _channels_second(output: Tensor, layer: nn.Module) -> Tensor:
    """(N, C, …): a view, for the outputs of a first layer are as large as all else together."""
    return output.movedim(-1, 1) if isinstance(layer, nn.Linear) else output


def _unchanged(values: Tensor) -> Tensor:
    return values


def _output(graph: fx.GraphModule, name: str, inputs: Tensor) -> Tensor:
    node = next(node for node in graph.graph.nodes if node.name == name)
    output: Tensor = graph.get_submodule(str(node.target))(inputs)
    return output


def _plain(layer: nn.Module) -> Any:
    return layer.layer if isinstance(layer, QuantizedWeight) else layer
