"""Layers of an integer graph that are computed in float on the same grid: other kernels, the same answers.

    Conv(x, DequantizeLinear(w)) → QuantizeLinear     becomes     Conv(x, w·s_w) → LeakyReLU → QuantizeLinear

Stored integers become the floats that they stand for, so that the runtime finds no integer layer to put together. What
the layer reads and what it gives still pass their quantizers: between two of them every value lies on the grid it lay
on before, and only the order of float32 sums may send a value on the edge between two codes to the other one.

The LeakyReLU has slope 1 and changes nothing. Without it ONNX Runtime rounds the weight to 8 bits again, with one scale
for all of it (shield.py); it is computed in one go with the layer.

A max pool behind such a layer is taken before the quantizer, which has the fewer values to round: the largest code is
the code of the largest value. ONNX Runtime's pool of 8-bit integers behind a float layer took 8.9 ms where it takes 0.2
behind an integer one, which gives another layout.

Letters: x input, w stored integers of the weight, s_w their scale.
"""

from collections.abc import Collection

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pipeline.quantization.integer_operators import dequantized_codes
from pipeline.quantization.quantized_graph import Pair, QuantizedGraph, name_of, quantized_graph, with_nodes

SHIELD, UNSHIELDED = ".shield", ".unshielded"  # behind the names of a layer, and of what it gives


def with_float_kernels(model: onnx.ModelProto, layers: Collection[str]) -> onnx.ModelProto:
    """A copy of a lowered model in which some of its quantized products have float weights.

    layers: names of what the products give
    """
    graph = quantized_graph(model)
    left = set(layers) - {node.output[0] for node in graph.nodes if graph.weight(node) is not None}
    if left:
        raise ValueError(f"no quantized product gives {', '.join(sorted(left))}")
    pools = {id(node): made for node in graph.nodes if (made := _pooled(node, graph, layers)) is not None}
    nodes: list[NodeProto] = []
    constants = list(model.graph.initializer)
    for node in graph.nodes:
        if node.output[0] in layers:
            nodes += _in_float(node, graph, constants, pools)
        elif id(node) in pools:
            nodes += _shielded(node, reads=pools[id(node)])
        else:
            nodes.append(node)
    return with_nodes(model, nodes, constants)


def quantized_products(model: onnx.ModelProto) -> list[str]:
    """What `with_float_kernels` can be asked for, in the order of the file."""
    graph = quantized_graph(model)
    return [node.output[0] for node in graph.nodes if graph.weight(node) is not None]


def _in_float(
    node: NodeProto, graph: QuantizedGraph, constants: list[TensorProto], pools: Collection[int]
) -> list[NodeProto]:
    name, product = node.output[0], NodeProto()
    product.CopyFrom(node)
    for place, ending in ((1, "weight"), (2, "bias")):
        stored = graph.dequantizer(node.input[place]) if len(node.input) > place else None
        if stored is None or stored.input[0] not in graph.constants:
            continue  # a bias that is left out, or float already
        product.input[place] = f"{name}.{ending}"
        values = dequantized_codes(graph.constants[stored.input[0]], graph.pair(stored))
        constants.append(numpy_helper.from_array(values, product.input[place]))
    return _shielded(product) if _meets_quantizer(name, graph, pools) else [product]


def _shielded(node: NodeProto, *, reads: str | None = None) -> list[NodeProto]:
    """The node, and a shield behind it; reads: its first input, in place of what it reads."""
    name, before = node.output[0], NodeProto()
    before.CopyFrom(node)
    before.input[0] = reads or node.input[0]
    before.output[0] = f"{name}{UNSHIELDED}"
    shield = helper.make_node("LeakyRelu", [before.output[0]], [name], name=f"{name_of(node)}{SHIELD}", alpha=1.0)
    return [before, shield]


def _meets_quantizer(name: str, graph: QuantizedGraph, pools: Collection[int]) -> bool:
    """Whether a quantizer reads the tensor, behind ReLUs and clips or not, that is read by more than these pools."""
    for reader in graph.readers.get(name, ()):
        if reader.op_type in ("Relu", "Clip") and _meets_quantizer(reader.output[0], graph, pools):
            return True
        if reader.op_type == "QuantizeLinear":
            behind = [each for back in graph.readers[reader.output[0]] for each in graph.readers[back.output[0]]]
            if any(id(each) not in pools for each in behind):
                return True
    return False


def _pooled(pool: NodeProto, graph: QuantizedGraph, layers: Collection[str]) -> str | None:
    """The tensor of a float layer that a max pool can read before its quantizer; None: not this one."""
    back = graph.dequantizer(pool.input[0]) if pool.op_type == "MaxPool" and len(pool.output) == 1 else None
    before = graph.maker.get(back.input[0]) if back is not None else None
    after = graph.readers.get(pool.output[0], ())
    if before is None or before.op_type != "QuantizeLinear" or not after or pool.output[0] in graph.outputs:
        return None
    if any(each.op_type != "QuantizeLinear" or not _same(graph.pair(each), graph.pair(before)) for each in after):
        return None
    name = before.input[0]
    while (node := graph.maker.get(name)) is not None and node.op_type in ("Relu", "Clip"):
        name = node.input[0]
    return before.input[0] if name in layers else None


def _same(one: Pair, other: Pair) -> bool:
    return bool(one.scale == other.scale and one.zero == other.zero and one.zero.dtype == other.zero.dtype)
