"""Give each channel of a quantized network the mean that it has in the float network.

Nagel, van Baalen, Blankevoort & Welling 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", arXiv:1906.04721, section 4.2; the empirical form of its appendix D.

    b ← b + E[ float output ] − E[ quantized output ],   per output channel, before the activation function

Rounding errors of the weights do not average out over a layer's inputs, because activations behind a ReLU have a mean
that is not 0: the error's mean is carried on to every later layer. Layers are corrected in the order of the graph, each
with all before it quantized and corrected. The last layer stays float and is corrected too: its input is quantized.

Letters: b bias, E mean over samples and positions, C channels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from calibration.observe import evaluating
from calibration.samples import Samples
from pipeline.quantization.fake_quant import QuantizedWeight
from pipeline.quantization.walk import LayerTold, Walk, by_channel, fitting, same_layers, samples_of, weighted_once


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
        holds at once: 50 photographs have 150 000 positions to take the mean of where tensors are that large

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
            expected = _means(float_walk.outputs_of(name), layer)
            seen = _means((_output(graph, name, each) for each in quantized_walk.inputs_of(name)), layer)
            shift = expected - seen  # (C,)
            layer.bias.add_(shift.to(layer.bias))
            corrected.append(CorrectedBias(name, float(shift.square().mean().sqrt())))
    return tuple(corrected)


def _means(outputs: Iterable[Tensor], layer: nn.Module) -> Tensor:
    """The mean of each channel over all batches, summed in float64 (C,)."""
    sums, count = torch.zeros(()), 0
    for output in outputs:
        flat = by_channel(output, layer)
        sums, count = sums + flat.sum(0, dtype=torch.float64), count + len(flat)
    return sums / count


def _output(graph: fx.GraphModule, name: str, inputs: Tensor) -> Tensor:
    node = next(node for node in graph.graph.nodes if node.name == name)
    output: Tensor = graph.get_submodule(str(node.target))(inputs)
    return output


def _plain(layer: nn.Module) -> Any:
    return layer.layer if isinstance(layer, QuantizedWeight) else layer
