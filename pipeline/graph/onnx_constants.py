"""Compute what follows from constants and shapes alone: exporters leave shapes as chains of small operators.

Only the operators listed here are computed, by the plain Python of ONNX's own reference; nothing large is made, so a
small file cannot ask for a large memory.
"""

import math
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from pipeline.graph.onnx_node import OnnxNode, as_float32

COMPUTED = frozenset((
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Erf", "Exp",
    "Expand", "Flatten", "Floor", "Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log",
    "MatMul", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "ScatterND", "Sigmoid", "Slice", "Split", "Sqrt",
    "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
    "Cos", "CumSum", "Sin", "Trilu",
))  # fmt: skip
SHAPES = ("Shape", "Size")  # constants, too, since every shape is known
LARGEST = 2**24  # elements of a computed constant: 64 MiB of float32, far above any table of anchors


def shape_answer(node: OnnxNode, shape: tuple[int, ...]) -> np.ndarray:
    """What Shape or Size answers for a tensor of this shape."""
    if node.operator == "Size":
        return np.array(math.prod(shape), dtype=np.int64)
    start, end = node.whole("start", 0), node.attributes.get("end")
    return np.array(shape[start:end], dtype=np.int64)


def computed(node: onnx.NodeProto, read: OnnxNode, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values of the outputs of `node`, all of whose inputs are in `constants`."""
    feeds = {name: constants[name] for name in node.input if name}
    if _elements(read, [constants[name] for name in node.input if name]) > LARGEST:
        raise read.refused("makes a very large constant out of a small one. Store the constant in the file.")
    if read.operator == "Constant":
        return {node.output[0]: _constant(read)}
    if read.operator == "Cast" and read.whole("to", 0) in (10, 11, 16):  # every width of floating point is float32
        return {node.output[0]: as_float32(feeds[node.input[0]].astype(np.float32))}
    if read.operator == "Identity":
        return {node.output[0]: feeds[node.input[0]]}
    try:
        outputs: Any = ReferenceEvaluator(_alone(node, opset=read.opset, inputs=list(feeds))).run(None, feeds)
    except Exception as error:  # the reference raises whatever its Python raises
        raise read.refused(f"cannot be computed ({error}). Check the model with onnxruntime.") from error
    named = zip(node.output, outputs, strict=False)
    return {name: as_float32(np.asarray(value)) for name, value in named if name}


def _alone(node: onnx.NodeProto, *, opset: int, inputs: list[str]) -> onnx.ModelProto:
    """A model of this node; the reference picks the operator's version by the model's operator set."""
    typeless = onnx.helper.make_empty_tensor_value_info
    given, made = ([typeless(name) for name in names if name] for names in (inputs, node.output))
    graph = onnx.helper.make_graph([node], "constant", given, made)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])


def _elements(node: OnnxNode, values: list[np.ndarray]) -> int:
    """How many elements the answer may have, where it may have more than all the inputs together; else 0."""
    shapes = [each.shape for each in values]
    if node.operator in ("ConstantOfShape", "Expand"):
        return math.prod(max(int(size), 1) for size in values[-1].reshape(-1))
    if node.operator == "Tile":
        return int(values[0].size) * math.prod(max(int(count), 1) for count in values[1].reshape(-1))
    if node.operator == "Range":
        start, end, step = (float(each.reshape(-1)[0]) for each in values)
        return int(abs((end - start) / step)) if step else LARGEST + 1
    if node.operator == "Concat":
        return sum(each.size for each in values)  # doubled thirty times, two numbers are two thousand million
    if node.operator == "Gather":
        return int(values[1].size * values[0].size) // max(int(shapes[0][node.whole("axis", 0)]), 1)
    if node.operator == "MatMul":
        return math.prod(shapes[0][:-1]) * math.prod(shapes[1][:-2]) * int(shapes[1][-1])
    try:
        broadcast = math.prod(np.broadcast_shapes(*shapes))
    except ValueError:
        return 0
    return broadcast if broadcast > sum(each.size for each in values) else 0


def _constant(node: OnnxNode) -> np.ndarray:
    """The value of a Constant node, however it is written."""
    given = node.attributes
    if "value" in given:
        return np.asarray(given["value"])
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64),
                       ("value_ints", np.int64)):  # fmt: skip
        if name in given:
            return np.asarray(given[name], dtype=kind)
    raise node.refused("holds no tensor of numbers. Export the network again.")
