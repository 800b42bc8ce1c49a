"""Write everything that is not integer in half precision: scales, biases, float layers, input and output.

No Cast is left, so the graph can be read with strong types. Integer weights stay as they are. What changes is the
rounding of the scales and of the other floats, by up to 2⁻¹¹ of their size: each integer step is exactly that of the
graph with its floats rounded to half precision. What passes between quantizers without an integer kernel (a concat of
two scales, an activation function) passes in half precision, and may fall to the neighbouring code.

Float16 ends at 65504; what lies beyond becomes infinite here and is refused by the validator, and so are scales with
less than 8 digits, those below 2⁻¹⁷. Three things are brought inside; the first two change nothing:

    a bound of a Clip beyond 65504    no finite float16 is beyond it: 65504
    the scale of a channel of zeros   zero at any scale: the smallest normal number
    a channel of next to nothing      its scale is below 2⁻¹⁷, and another of that weight is 2⁻¹⁴ or more: its codes are
                                      those of a scale of 2⁻¹⁷, by which a weight moves 2⁻¹⁸ at most. So far may the
                                      largest weights move when their scale is rounded: 127·2⁻¹⁴·2⁻¹¹ = 2⁻¹⁸.
                                      Published networks have such channels, nearly switched off by their batch norm.

Source: IEEE 754-2008, binary16; ONNX operator set 19, the first in which scales may be float16.
"""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper, shape_inference, version_converter

OPSET = 19
LARGEST = float(np.finfo(np.float16).max)  # 65504
SMALLEST_NORMAL = float(np.finfo(np.float16).tiny)  # 2⁻¹⁴
SMALLEST_SCALE = 2.0**-17  # below it float16 has less than the 8 digits that the codes need
_FLOAT = TensorProto.FLOAT


def floats_halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` with float16 wherever it had float32."""
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model if opset >= OPSET else version_converter.convert_version(model, OPSET))
    graph = lowered.graph
    _coarsened(graph)
    readers: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, place))
    integers = {each.name: numpy_helper.to_array(each) for each in graph.initializer if each.data_type != _FLOAT}
    for constant in graph.initializer:
        if constant.data_type == _FLOAT and not any(must_stay_wide(*each) for each in readers.get(constant.name, ())):
            values = numpy_helper.to_array(constant)
            for node, place in readers.get(constant.name, ()):
                values = _brought_inside(values, node, place, integers)
            constant.CopyFrom(_halved(values, constant.name))
    for node in graph.node:
        for each in node.attribute:
            if node.op_type == "Cast" and each.name == "to" and each.i == _FLOAT:
                each.i = TensorProto.FLOAT16
            elif each.type == onnx.AttributeProto.TENSOR and each.t.data_type == _FLOAT:
                each.t.CopyFrom(_halved(numpy_helper.to_array(each.t), each.t.name))
    for door in (*graph.input, *graph.output):
        if door.type.tensor_type.elem_type == _FLOAT:
            door.type.tensor_type.elem_type = TensorProto.FLOAT16
    del graph.value_info[:]
    return shape_inference.infer_shapes(lowered)


def must_stay_wide(node: NodeProto, place: int) -> bool:
    """Whether the standard takes float32 only: the factors of a Resize."""
    return node.op_type == "Resize" and place == 2


def _coarsened(graph: onnx.GraphProto) -> None:
    """Give the channels of next to nothing of each stored weight a scale that float16 has digits for, in place."""
    constants = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants or node.input[1] not in constants:
            continue
        stored, scaled = constants[node.input[0]], constants[node.input[1]]
        codes, scale = numpy_helper.to_array(stored), numpy_helper.to_array(scaled)
        axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
        if codes.dtype != np.int8 or scale.ndim != 1 or scale.max() < SMALLEST_NORMAL:
            continue
        small = (scale > 0) & (scale < SMALLEST_SCALE) & codes.any(axis=_others(codes, axis))
        if small.any():
            coarse = np.where(small, np.float32(SMALLEST_SCALE), scale)
            along = [-1 if place == axis % codes.ndim else 1 for place in range(codes.ndim)]
            fitted = np.rint(codes * (scale.astype(np.float64) / coarse).reshape(along)).astype(np.int8)
            stored.CopyFrom(numpy_helper.from_array(fitted, stored.name))
            scaled.CopyFrom(numpy_helper.from_array(coarse, scaled.name))


def _others(codes: np.ndarray, axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(codes.ndim) if other != axis % codes.ndim)


def _brought_inside(values: np.ndarray, node: NodeProto, place: int, integers: dict[str, np.ndarray]) -> np.ndarray:
    if node.op_type == "Clip" and place:
        inside: np.ndarray = np.clip(values, -LARGEST, LARGEST)
        return inside
    codes = integers.get(node.input[0]) if node.op_type == "DequantizeLinear" and place == 1 else None
    if codes is None or not values.ndim:
        return values
    axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
    dead = ~codes.any(axis=_others(codes, axis)) & (values < SMALLEST_NORMAL) & (values > 0)
    return np.where(dead, np.float32(SMALLEST_NORMAL), values)


def _halved(values: np.ndarray, name: str) -> TensorProto:
    with np.errstate(over="ignore", under="ignore"):
        return numpy_helper.from_array(np.asarray(values.astype(np.float16)), name)
