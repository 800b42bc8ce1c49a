"""The student whose residual sums take one convolution in before it is rounded, in torch and as a file.

A runtime that computes convolution and sum in one kernel (TensorRT, OpenVINO) rounds once where the student rounds
twice. Which of two convolutions it takes in is its own affair as long as both have quantizers: on a ResNet-20 OpenVINO
took another than the file's writer would, and its answers were 1 % off (root mean square over deviation). So the
quantizer that falls away is taken out beforehand (lower_tensorrt.py says which), and the torch network that the engine
must answer like has none there either; the answers of both then differ by 0.5 %, as ONNX Runtime's do.
"""

from collections.abc import Collection
from functools import partial

import onnx
from torch import fx, nn

from pipeline.candidate import Architecture
from pipeline.quantization.fake_quant import is_quantizer
from pipeline.quantization.lower_tensorrt import fused_additions
from pipeline.quantization.quantized_graph import quantized_graph


def dropped_places(model: onnx.ModelProto) -> tuple[int, ...]:
    """Which quantizers fall away, by their place among the activation quantizers of the canonical file."""
    graph, dropped = quantized_graph(model), {each.dropped for each in fused_additions(model)}
    points = [node for node in graph.nodes if node.op_type == "QuantizeLinear" and node.input[0] not in graph.constants]
    return tuple(place for place, node in enumerate(points) if node.output[0] in dropped)


def without_points(architecture: Architecture, places: Collection[int]) -> Architecture:
    """`architecture` without calls of the activation quantizers at these places; what is loaded into it stays the same.

    places: among the calls of all activation quantizers, in their order
    """
    return partial(_without_points, architecture, tuple(places))


def _without_points(architecture: Architecture, places: tuple[int, ...]) -> nn.Module:
    graph = architecture()
    assert isinstance(graph, fx.GraphModule)
    calls = [
        node
        for node in graph.graph.nodes
        if node.op == "call_module" and is_quantizer(graph.get_submodule(str(node.target)))
    ]
    for place in places:
        calls[place].replace_all_uses_with(calls[place].all_input_nodes[0])
        graph.graph.erase_node(calls[place])
    graph.graph.lint()
    graph.recompile()
    return graph
