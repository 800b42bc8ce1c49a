"""Matrix products without a bias as ONNX Runtime multiplies them in integers: the weight stored as it is multiplied.

    MatMul(x, Transpose(DequantizeLinear(w)))      becomes   MatMul(x, DequantizeLinear(wᵀ))
    MatMul(x, …) → Clip → QuantizeLinear           becomes   MatMul(x, …) → Reshape → Clip → QuantizeLinear

The runtime transposes the codes by itself, so the first changes nothing but what a reader of the file sees: which
weights are neighbours (neighbours.py), and that codes are multiplied.

A clip that does not end where the codes end, which a hard tanh is and a ReLU6 of another scale, keeps a product before
it in float, with a weight that is dequantized at every call: the runtime looks for the quantizer behind the clip, and
does not find an integer form. Behind a Reshape, which costs nothing, it does not look (seen with 1.31). Layers with a
bias have that Reshape already (lower_linear.py).

Exact: codes and values are moved as they are.
"""

from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

from pipeline.quantization.integer_operators import quantized_values
from pipeline.quantization.quantized_graph import QuantizedGraph, quantized_graph, with_nodes
from targets.engines.onnx_shapes import fixed_shapes


def weights_as_multiplied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which a MatMul of codes reads its stored weight, and no clip, directly."""
    graph = quantized_graph(model)
    constants, nodes, shapes = list(model.graph.initializer), list[NodeProto](), dict[str, tuple[int, ...]]()
    for node in model.graph.node:
        product = node.op_type == "MatMul" and graph.dequantizer(node.input[0]) is not None
        if not product or graph.weight(node) is None or graph.multiplied(node).ndim != 2:
            nodes.append(node)
            continue
        again = NodeProto()
        again.CopyFrom(node)
        if graph.turns(node.input[1]):
            nodes.append(_dequantized(again, graph, constants))
        nodes.append(again)
        if _is_clipped_within(node.output[0], graph):
            shapes = shapes or fixed_shapes(model)
            shape = shapes.get(node.output[0], ())
            if shape and 0 not in shape:
                nodes.append(_reshaped(again, shape, constants))
    lowered = with_nodes(model, nodes, constants)
    del lowered.graph.value_info[:]
    return shape_inference.infer_shapes(lowered)


def _dequantized(product: NodeProto, graph: QuantizedGraph, constants: list[TensorProto]) -> NodeProto:
    """The DequantizeLinear of the turned codes, which the product reads from now on."""
    weight, name = graph.weight(product), f"{product.output[0]}.turned"
    assert weight is not None
    pair = graph.pair(weight)
    values = {"codes": graph.multiplied(product), "scale": pair.scale, "zero": pair.zero}
    constants += [numpy_helper.from_array(np.ascontiguousarray(each), f"{name}_{end}") for end, each in values.items()]
    product.input[1] = name
    read = [f"{name}_{end}" for end in values]
    axis: Any = {"axis": 1} if pair.scale.ndim else {}  # one scale for each output: the validator refuses others
    return helper.make_node("DequantizeLinear", read, [name], name=f"{weight.name or name}.turned", **axis)


def _reshaped(product: NodeProto, shape: tuple[int, ...], constants: list[TensorProto]) -> NodeProto:
    """The Reshape that gives what the product gave, in the shape that it has already."""
    result = product.output[0]
    constants.append(numpy_helper.from_array(np.array(shape), f"{result}.shape"))
    product.output[0] = f"{result}.unclipped"
    return helper.make_node("Reshape", [product.output[0], f"{result}.shape"], [result], name=f"{result}.unclip")


def _is_clipped_within(name: str, graph: QuantizedGraph) -> bool:
    """Whether only clips and ReLUs stand before the quantizer, and one of them ends within its codes."""
    lowest, highest, clips = -np.inf, np.inf, 0
    while True:
        readers = graph.readers.get(name, ())
        if len(readers) != 1 or name in graph.outputs:
            return False
        (reader,) = readers
        if reader.op_type == "QuantizeLinear":
            break
        bounds = graph.bounds(reader) if reader.op_type in ("Relu", "Clip") else None
        if bounds is None:
            return False
        lowest, highest, name, clips = max(lowest, bounds[0]), min(highest, bounds[1]), reader.output[0], clips + 1
    pair = graph.pair(reader)
    if not clips or pair.scale.ndim:
        return False
    ends = tuple(int(quantized_values(np.asarray(end), pair)) for end in (lowest, highest))
    limits = np.iinfo(pair.zero.dtype)
    return ends != (limits.min, limits.max)
