"""Store the codes of activations in the other 8-bit type: the values stay, and saturate at the same places.

    q' = q ± 128,  z' = z ± 128

Exact by construction: only the zero point and the storage type of activation pairs change; weights stay int8.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference


def activations_stored(model: onnx.ModelProto, *, kind: type[np.int8] | type[np.uint8]) -> onnx.ModelProto:
    """A copy of `model` in which every 8-bit activation quantizer stores this type."""
    other, shift = (np.int8, 128) if kind is np.uint8 else (np.uint8, -128)
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
        if not is_activation or zero.data_type != helper.np_dtype_to_tensor_dtype(np.dtype(other)):
            continue
        shifted = numpy_helper.to_array(zero).astype(np.int16) + shift
        name = f"{node.name or node.output[0]}.zero_{'128' if kind is np.uint8 else 'int8'}"
        graph.initializer.append(numpy_helper.from_array(shifted.astype(kind), name))
        node.input[2] = name
    unread_dropped(lowered)
    return shape_inference.infer_shapes(lowered)


def unread_dropped(model: onnx.ModelProto) -> None:
    """Remove the constants that no node reads, and every noted shape and type, in place."""
    read = {name for node in model.graph.node for name in node.input}
    for constant in list(model.graph.initializer):
        if constant.name not in read:
            model.graph.initializer.remove(constant)
    del model.graph.value_info[:]
