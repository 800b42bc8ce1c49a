"""The student without quantizers that a runtime can do without, in torch and as a file.

A student has a quantizer wherever ONNX Runtime's integer kernels want one. Another runtime needs fewer of them
(`targets.runner.Place`):

    sum         a convolution and a residual sum in one kernel (TensorRT, OpenVINO): rounded once, not twice
    function    likewise a layer and the activation function behind it; with a quantizer between, OpenVINO gives the
                function an operator of its own
    pooling     floats are pooled, and what comes out is quantized; of maxima these are the same codes
    depthwise   the convolution reads floats, with its weights on their grid

Which of two convolutions a runtime takes into a sum is its own affair as long as both have quantizers: on a ResNet-20
OpenVINO took another than the file's writer would, and its answers were 1 % off (root mean square over deviation). So
what falls away is taken out beforehand, and the torch network that the engine must answer like has none there either;
the answers of both then differ by 0.5 %, as ONNX Runtime's do.
"""

from collections.abc import Collection
from functools import partial

import onnx
from onnx import numpy_helper
from torch import fx, nn

from pipeline.candidate import Architecture
from pipeline.graph.trace import calls, layer_of, only_user
from pipeline.quantization.fake_quant import QuantizedWeight, is_quantizer
from pipeline.quantization.functions_behind import CALLS, LAYERS
from pipeline.quantization.integer_operators import dequantized_codes
from pipeline.quantization.lower_codes import unread_dropped
from pipeline.quantization.lower_tensorrt import fused_additions
from pipeline.quantization.neighbours import is_depthwise
from pipeline.quantization.placement import MAX_POOL_CALLS, MAX_POOL_LAYERS, POOL_CALLS, POOL_LAYERS
from pipeline.quantization.quantized_graph import QuantizedGraph, attribute, name_of, quantized_graph
from targets.runner import Place


def dropped_places(
    model: onnx.ModelProto, student: nn.Module, kinds: Collection[Place]
) -> dict[Place, tuple[int, ...]]:
    """Which quantizers fall away, by their place among the activation quantizers of the canonical file.

    student: the torch network of that file, with its quantizers; the kinds that it has none of are left out
    """
    graph = quantized_graph(model)
    points = _points(graph)
    if not isinstance(student, fx.GraphModule) or len(_quantizer_calls(student)) != len(points):
        return {}
    in_sums = {each.dropped for each in fused_additions(model)}
    found: dict[Place, list[int]] = {kind: [] for kind in Place if kind in kinds}
    for place, (node, call) in enumerate(zip(points, _quantizer_calls(student), strict=True)):
        kind = Place.SUM if node.output[0] in in_sums else _kind(student, call)
        if kind in found:
            found[kind].append(place)
    return {kind: tuple(places) for kind, places in found.items() if places}


def without_places(model: onnx.ModelProto, places: Collection[int]) -> onnx.ModelProto:
    """A copy of the canonical file without these quantizers; layers that read floats then have float weights."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = quantized_graph(changed)
    points = _points(graph)
    for place in places:
        quantize = points[place]
        for dequantize in graph.readers[quantize.output[0]]:
            for reader in graph.readers[dequantize.output[0]]:
                for number, name in enumerate(reader.input):
                    if name == dequantize.output[0]:
                        reader.input[number] = quantize.input[0]
            changed.graph.node.remove(dequantize)
        changed.graph.node.remove(quantize)
    _weights_as_floats(changed)
    unread_dropped(changed)
    return changed


def depthwise_on_floats(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the depthwise convolutions whose stored weights are floats."""
    graph = quantized_graph(model)
    floats = [node for node in graph.nodes if node.op_type == "Conv" and node.input[1] in graph.constants]
    return tuple(
        name_of(node) for node in floats
        if attribute(node, "group", 1) > 1 and graph.constants[node.input[1]].shape[1] == 1
    )  # fmt: skip


def without_points(architecture: Architecture, places: Collection[int]) -> Architecture:
    """`architecture` without calls of the activation quantizers at these places; what is loaded into it stays the same.

    places: among the calls of all activation quantizers, in their order
    """
    return partial(_without_points, architecture, tuple(places))


def _points(graph: QuantizedGraph) -> list[onnx.NodeProto]:
    return [node for node in graph.nodes if node.op_type == "QuantizeLinear" and node.input[0] not in graph.constants]


def _quantizer_calls(graph: fx.GraphModule) -> list[fx.Node]:
    return [
        node
        for node in graph.graph.nodes
        if node.op == "call_module" and is_quantizer(graph.get_submodule(str(node.target)))
    ]


def _kind(graph: fx.GraphModule, call: fx.Node) -> Place | None:
    """Of any quantizer but those before sums."""
    after = only_user(call)
    if after is not None and calls(graph, after, layers=LAYERS, functions=CALLS):
        return Place.FUNCTION
    readers = list(call.users)
    pools = (*POOL_LAYERS, *MAX_POOL_LAYERS), (*POOL_CALLS, *MAX_POOL_CALLS)
    if readers and all(calls(graph, each, layers=pools[0], functions=pools[1]) for each in readers):
        return Place.POOLING
    layers = [layer_of(graph, each) for each in readers]
    if layers and all(isinstance(each, QuantizedWeight) and is_depthwise(each.layer) for each in layers):
        return Place.DEPTHWISE
    return None


def _weights_as_floats(model: onnx.ModelProto) -> None:
    """Of the convolutions whose input is not dequantized: the values that their codes stand for, in place."""
    graph = quantized_graph(model)
    for node in graph.nodes:
        weight = graph.weight(node) if node.op_type == "Conv" and graph.dequantizer(node.input[0]) is None else None
        if weight is None:
            continue
        values = dequantized_codes(graph.constants[weight.input[0]], graph.pair(weight))
        name = f"{weight.output[0]}.values"
        model.graph.initializer.append(numpy_helper.from_array(values, name))
        node.input[1] = name
        if len(graph.readers[weight.output[0]]) == 1:
            model.graph.node.remove(weight)


def _without_points(architecture: Architecture, places: tuple[int, ...]) -> nn.Module:
    graph = architecture()
    assert isinstance(graph, fx.GraphModule)
    found = _quantizer_calls(graph)
    for place in places:
        found[place].replace_all_uses_with(found[place].all_input_nodes[0])
        graph.graph.erase_node(found[place])
    graph.graph.lint()
    graph.recompile()
    return graph
