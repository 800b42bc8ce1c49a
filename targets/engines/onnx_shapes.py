"""The shapes of an ONNX graph's tensors, also behind an operator that is the runtime's own."""

import onnx
from onnx import shape_inference

STANDARD = {
    "DynamicQuantizeLSTM": "LSTM"
}  # the runtime's operator → the one that begins with its inputs and answers so


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each operator that the inference knows not is the one that it is like, with inferred shapes.

    For its shapes alone: it is no model to run.
    """
    known = onnx.ModelProto()
    known.CopyFrom(model)
    for node in known.graph.node:
        if node.op_type in STANDARD:
            node.op_type, node.domain = STANDARD[node.op_type], ""
            del node.input[1:]
    return shape_inference.infer_shapes(known)


def fixed_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The inferred shapes by name; an axis without a fixed length is 0."""
    known = with_shapes(model).graph
    return {
        each.name: tuple(axis.dim_value for axis in each.type.tensor_type.shape.dim)
        for each in (*known.value_info, *known.output)
    }
