"""Parameters and multiply-accumulates of an ONNX graph, counted from its shapes.

A convolution costs (output elements) · (input channels / groups) · (kernel elements) multiply-accumulates, a matrix
product (output elements) · (inner length), a recurrent layer (steps) · (elements of its weights). Everything else is
not counted, as is usual.
"""

import math
from collections.abc import Mapping

import onnx
from onnx import TensorProto

from targets.engines.onnx_shapes import with_shapes

WEIGHT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8)  # not shapes and axes
RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", *RECURRENT)


def parameters_and_macs(model: onnx.ModelProto) -> tuple[int, int | None]:
    """How many weights and biases, and how many multiply-accumulates; None for the latter where a shape is unknown."""
    graph, shapes = model.graph, shapes_in(model)
    parameters, macs = 0, 0
    weights = {constant.name: constant for constant in graph.initializer}
    scales = {
        name for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear") for name in node.input[1:]
    }
    scales |= {name for node in graph.node if node.op_type == "DynamicQuantizeLSTM" for name in node.input[8:]}
    for name, constant in weights.items():
        if name not in scales and constant.data_type in WEIGHT_TYPES and constant.dims:
            parameters += math.prod(constant.dims)
    for node in graph.node:
        if node.op_type not in PRODUCTS:
            continue
        of_node = macs_of(node, shapes)
        if of_node is None:
            return parameters, None
        macs += of_node
    return parameters, macs


def shapes_in(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Tensor → its shape, with 0 for an axis that is not known."""
    known = with_shapes(model).graph
    shapes = {constant.name: tuple(constant.dims) for constant in model.graph.initializer}
    for value in (*known.input, *known.value_info, *known.output):
        shapes[value.name] = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
    return shapes


def macs_of(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Multiply-accumulates of a product; None where a shape is unknown."""
    first, second, output = shapes.get(node.input[0]), shapes.get(node.input[1]), shapes.get(node.output[0])
    if not first or not second or not output or 0 in (*first, *second, *output):
        return None
    if node.op_type in RECURRENT:  # inputs (T, N, I)
        third = shapes.get(node.input[2], ())
        return math.prod(first[:2]) * (math.prod(second) + math.prod(third))
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    flipped = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(output) * (first[0] if flipped else first[-1])
