"""Bring every bias to the integer grid that the engine will round it to, so that network and engine add the same.

    b ← s_x · s_w[k] · round( b / (s_x · s_w[k]) )

An integer convolution adds its bias to sums of products of codes, so the bias is an integer in units of s_x · s_w. The
runtime rounds it there; a network that goes on with the unrounded one differs by up to half a unit, which moves a few
codes in a thousand of every layer to the next one.

Letters: b bias, s_x scale of the layer's input, s_w scale of its weights, k output channel.
"""

import torch
from torch import Tensor, fx

from pipeline.graph.trace import layer_of
from pipeline.quantization.fake_quant import GridPoint, QuantizedWeight
from pipeline.quantization.insert import FOLDER


@torch.no_grad()
def biases_on_grid(graph: fx.GraphModule) -> tuple[str, ...]:
    """Round the biases of all quantized layers, in place; the names of the layers.

    A layer that is called twice, behind two quantizers, keeps its bias: no one grid is right.
    """
    scales: dict[str, set[float]] = {}
    for node in graph.graph.nodes:
        source = node.args[0] if node.args else None
        if not isinstance(layer_of(graph, node), QuantizedWeight) or not isinstance(source, fx.Node):
            continue
        quantized = source.op == "call_module" and str(source.target).startswith(f"{FOLDER}.")
        point = GridPoint(graph.get_submodule(str(source.target))) if quantized else None
        scales.setdefault(str(node.target), set()).add(float(point.scale) if point is not None else 0.0)  # type: ignore[arg-type]
    rounded = []
    for name, of_input in scales.items():
        layer = graph.get_submodule(name)
        assert isinstance(layer, QuantizedWeight)
        bias = layer.layer.bias
        if len(of_input) != 1 or 0.0 in of_input or not isinstance(bias, Tensor):
            continue
        weight_scale = GridPoint(layer.quantizer).scale  # (K,)
        assert isinstance(weight_scale, Tensor)
        unit = weight_scale.double() * of_input.pop()
        bias.copy_(((bias.double() / unit).round() * unit).to(bias.dtype))
        rounded.append(name)
    return tuple(rounded)
