"""Pad in integers: ONNX Runtime leaves a Pad between two quantizers in float.

    DequantizeLinear(s, z) → Pad(0.0) → QuantizeLinear(s, z)   becomes   Pad(z) on the integers

Exact: the scale and the zero point are the same on both sides, so every value is moved as it is, and 0.0 is the
integer z. Not for TensorRT, whose builder takes a quantized constant before a DequantizeLinear only.
"""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper


def padded_in_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which constant padding with zero between equal quantizers runs on integers."""
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    graph = lowered.graph
    constants = {constant.name: constant for constant in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        before, after = made.get(pad.input[0]), readers.get(pad.output[0], [])
        if before is None or before.op_type != "DequantizeLinear" or len(after) != 1:
            continue
        quantize = after[0]
        if (
            quantize.op_type != "QuantizeLinear"
            or not _pads_zero(pad, constants)
            or not _equal(before, quantize, constants)
        ):
            continue
        zero = numpy_helper.to_array(constants[quantize.input[2]])
        name = f"{pad.name or pad.output[0]}.zero"
        graph.initializer.append(numpy_helper.from_array(zero, name))
        shape = pad.input[1]
        del pad.input[:]
        pad.input.extend([before.input[0], shape, name])
        pad.output[0] = quantize.output[0]
        graph.node.remove(quantize)
        if len(readers[before.output[0]]) == 1:
            graph.node.remove(before)
    del graph.value_info[:]
    return lowered


def _pads_zero(pad: NodeProto, constants: dict[str, TensorProto]) -> bool:
    mode = next((attribute.s for attribute in pad.attribute if attribute.name == "mode"), b"constant")
    if mode != b"constant" or len(pad.input) > 3:
        return False
    value = pad.input[2] if len(pad.input) == 3 else ""
    return not value or (value in constants and not numpy_helper.to_array(constants[value]).any())


def _equal(first: NodeProto, second: NodeProto, constants: dict[str, TensorProto]) -> bool:
    """Whether two quantizer nodes have the same constant scale and zero point, of the same integer type."""
    for one, other in zip(first.input[1:3], second.input[1:3], strict=True):
        if one not in constants or other not in constants:
            return False
        left, right = numpy_helper.to_array(constants[one]), numpy_helper.to_array(constants[other])
        if left.dtype != right.dtype or not np.array_equal(left, right):
            return False
    return len(first.input) == len(second.input) == 3
