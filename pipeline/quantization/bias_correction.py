"""Give each channel of a quantized network the mean that it has in the float network, behind its activation function.

Nagel, van Baalen, Blankevoort & Welling 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", arXiv:1906.04721, section 4.2; the empirical form of its appendix D, with one change:

    b ← b + d,   E[ f(quantized output + d) ] = E[ f(float output) ],   per output channel, f the function behind it

Rounding errors of the weights do not average out over a layer's inputs, because activations behind a ReLU have a mean
that is not 0: the error's mean is carried on to every later layer. Layers are corrected in the order of the graph, each
with all before it quantized and corrected. The last layer stays float and is corrected too: its input is quantized.

The paper compares the means before f. What f cuts off counts there, and nowhere else: a channel that is far below 0
most of the time was moved for an error that no layer sees. Error of the answers of calibrated networks, which each
report lists step by step (preparation.py); 200 photographs, for MobileNetV2 100:

    not corrected   means before f   means behind f
    0.119           0.059            0.043           MobileNetV1-0.25
    0.031           0.059            0.020           MobileNetV2
    0.0046          0.0036           0.0028          SqueezeNet

d is found by Newton's method, with the slope of the left side as it is measured; STEPS of it.

Letters: b bias, d its correction, E mean over samples and positions, f activation function, C channels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from calibration.observe import evaluating
from calibration.samples import Samples
from calibration.two_ended import Function
from pipeline.quantization.fake_quant import QuantizedWeight
from pipeline.quantization.functions_behind import function_after
from pipeline.quantization.walk import LayerTold, Walk, by_channel, fitting, same_layers, samples_of, weighted_once

STEPS = 3  # after two of them the means of a small network agreed to 1e-7
NUDGE = 0.02  # of a channel's size: how far it is moved to measure the slope
FLAT = 0.02  # a channel of which f lets less through stays as it is
LEAST_SLOPE, FURTHEST = 0.1, 0.5  # bound a step: the second in sizes of the channel


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
            function = function_after(graph, name)
            expected = _means(float_walk.outputs_of(name), layer, function)  # (C,)
            outputs = [_output(graph, name, each) for each in quantized_walk.inputs_of(name)]
            shift = _shift(outputs, expected, layer, function)  # (C,)
            layer.bias.add_(shift.to(layer.bias))
            corrected.append(CorrectedBias(name, float(shift.square().mean().sqrt())))
    return tuple(corrected)


def _shift(outputs: list[Tensor], expected: Tensor, layer: nn.Module, function: Function | None) -> Tensor:
    """d, as above."""
    if function is None:
        return expected - _means(outputs, layer, None)
    size = _means(outputs, layer, torch.square).sqrt()
    shift = torch.zeros_like(expected)
    for _ in range(STEPS):
        seen = _means(outputs, layer, function, shift)
        nudge = NUDGE * size + 1e-6
        slope = (_means(outputs, layer, function, shift + nudge) - seen) / nudge
        step = (expected - seen) / slope.clamp_min(LEAST_SLOPE)
        shift += torch.where(slope < FLAT, 0.0, step.clamp(-FURTHEST * size, FURTHEST * size))
    return shift


def _means(
    outputs: Iterable[Tensor], layer: nn.Module, function: Function | None, shift: Tensor | None = None
) -> Tensor:
    """The mean of each channel of f(outputs + shift) over all batches, summed in float64 (C,)."""
    sums, count = torch.zeros(()), 0
    for output in outputs:
        flat = by_channel(output, layer)  # (values, C)
        moved = flat if shift is None else flat + shift.to(flat)
        sums = sums + (moved if function is None else function(moved)).sum(0, dtype=torch.float64)
        count += len(flat)
    return sums / count


def _output(graph: fx.GraphModule, name: str, inputs: Tensor) -> Tensor:
    node = next(node for node in graph.graph.nodes if node.name == name)
    output: Tensor = graph.get_submodule(str(node.target))(inputs)
    return output


def _plain(layer: nn.Module) -> Any:
    return layer.layer if isinstance(layer, QuantizedWeight) else layer
