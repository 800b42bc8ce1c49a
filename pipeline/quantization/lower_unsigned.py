"""Store signed activations as unsigned ones, which is the form ONNX Runtime's x86 kernels are fast at.

    q_u8 = q_s8 + 128,  zero point 128 instead of 0: the same values, none changed, saturation at the same places

Exact by construction: only the zero point and the storage type of activation pairs change; weights stay int8.
"""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, shape_inference


def activations_unsigned(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which every int8 activation quantizer stores uint8 around 128."""
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    graph = lowered.graph
    constants = {constant.name: constant for constant in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        source = made.get(node.input[0])
        is_activation = node.op_type == "QuantizeLinear" or (source is not None and source.op_type == "QuantizeLinear")
        zero = constants[node.input[2]]
        if not is_activation or zero.data_type != TensorProto.INT8:
            continue
        shifted = numpy_helper.to_array(zero).astype(np.int16) + 128
        name = f"{node.name or node.output[0]}.zero_128"
        graph.initializer.append(numpy_helper.from_array(shifted.astype(np.uint8), name))
        node.input[2] = name
    read = {name for node in graph.node for name in node.input}
    for constant in list(graph.initializer):
        if constant.name not in read:
            graph.initializer.remove(constant)
    del graph.value_info[:]
    return shape_inference.infer_shapes(lowered)
