"""The weights of recurrent layers of few steps as floats on their grid, for ONNX Runtime.

    GRU | RNN | LSTM(x, DequantizeLinear(w))      becomes   GRU | RNN | LSTM(x, s · w)      of fewer than 32 steps

The runtime leaves that DequantizeLinear in the engine: at every call it makes floats of all weights anew and reads them
as they lie, where stored ones are packed once. It costs as much as some steps of the layer: the layer of 64 features
and 256 units took 1.3 to 1.6 times as long for one step, and 1.0 to 1.1 times for 50 (decision 0023). So a layer of
few steps has its weights stored as floats, in four times the room, and one of many steps in 8 bits. OpenVINO refuses
some GRUs whose weights are no stored floats.

Exact: the floats are those that the DequantizeLinear would give.
"""

import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from pipeline.quantization.integer_operators import dequantized_codes
from pipeline.quantization.quantized_graph import QuantizedGraph, name_of, quantized_graph, with_nodes
from targets.engines.onnx_shapes import fixed_shapes

OPERATORS = ("GRU", "RNN", "LSTM")
FEW_STEPS = 32  # from here on the measured cost was 12 % at the most, and the file is a quarter


def few_steps_in_floats(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which recurrent layers of few steps read float weights."""
    if not any(node.op_type in OPERATORS for node in model.graph.node):
        return model
    graph, shapes = quantized_graph(model), fixed_shapes(model)
    shapes |= {each.name: tuple(axis.dim_value for axis in each.type.tensor_type.shape.dim)
               for each in model.graph.input}  # fmt: skip
    constants = list(model.graph.initializer)
    nodes = []
    for node in model.graph.node:
        steps = (shapes.get(node.input[0]) or (0,))[0] if node.op_type in OPERATORS else 0
        nodes.append(_on_floats(node, graph, constants) if 0 < steps < FEW_STEPS else node)
    return with_nodes(model, nodes, constants)


def _on_floats(node: NodeProto, graph: QuantizedGraph, constants: list[TensorProto]) -> NodeProto:
    again = NodeProto()
    again.CopyFrom(node)
    for place, ending in ((1, "inputs"), (2, "state")):
        weight = graph.dequantizer_behind(node.input[place])
        if weight is None or weight.input[0] not in graph.constants:
            continue
        values = dequantized_codes(graph.constants[weight.input[0]], graph.pair(weight))
        again.input[place] = f"{name_of(node)}.weights_of_{ending}"
        turned = graph.turned(node.input[place], values)
        constants.append(numpy_helper.from_array(turned, again.input[place]))
    return again
