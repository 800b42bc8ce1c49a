"""The layers of an ONNX graph as a runtime would fuse them: operations and bytes of each, for an estimate.

A layer begins with an operator that cannot be folded into the one before it (a convolution, a matrix product, a pool);
the functions, additions and quantizers behind it belong to it. It reads its inputs and weights once and writes what
another layer reads. A tensor between quantizer and dequantizer has one byte per element, others have their type's.

Operations: two per multiply-accumulate; of a pool the elements it reads; of anything else one per element.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto

from pipeline.graph.count import PRODUCTS, macs_of
from targets.engines.onnx_shapes import with_shapes
from targets.estimate import Arithmetic, LayerCost

MOVES_NOTHING = ("DequantizeLinear", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")
POINTWISE = frozenset({
    "QuantizeLinear", "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu",
    "Selu", "Softplus", "Gelu", "Erf", "Exp", "Log", "Sqrt", "Pow", "Abs", "Neg", "Reciprocal", "Min", "Max", "Add",
    "Sub", "Mul", "Div", "BatchNormalization", "Cast", "Where",
})  # fmt: skip
PART_READ = ("Gather", "GatherND", "GatherElements", "Slice", "Split")  # as much as they give
WINDOWS = ("MaxPool", "AveragePool", "LpPool")
OF_SHAPES = ("Constant", "ConstantOfShape", "Shape", "Size", "Range")  # not of what runs through the network
BYTES: Mapping[int, int] = {
    TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.BFLOAT16: 2, TensorProto.DOUBLE: 8, TensorProto.INT8: 1,
    TensorProto.UINT8: 1, TensorProto.BOOL: 1, TensorProto.INT32: 4, TensorProto.INT64: 8,
}  # fmt: skip


@dataclass
class Layer:
    """What is folded together while the graph is walked.

    reads, writes: tensor → bytes; what turns out to stay inside is not written
    """

    name: str
    arithmetic: Arithmetic
    foldable: bool  # whether a function may join it
    operations: int = 0
    reads: dict[str, int] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Tensors:
    """What is known of the tensors of a graph, and what the walk has found.

    behind: a tensor → the one in memory that it is a view of · maker: tensor → place of the layer that gives it
    """

    shapes: Mapping[str, tuple[int, ...] | None]
    types: Mapping[str, int]
    constants: set[str]
    behind: dict[str, str] = field(default_factory=dict)
    maker: dict[str, int] = field(default_factory=dict)
    dequantized: set[str] = field(default_factory=set)

    def root(self, name: str) -> str:
        """The tensor in memory."""
        return self.behind.get(name, name)

    def elements(self, name: str) -> int:
        """How many; raises KeyError where the shape is unknown."""
        shape = self.shapes.get(name)
        if shape is None or 0 in shape:
            raise KeyError(name)
        return math.prod(shape)

    def size(self, name: str) -> int:
        """In bytes."""
        return self.elements(name) * BYTES.get(self.types.get(name, TensorProto.FLOAT), 4)


def layer_costs(model: onnx.ModelProto) -> tuple[LayerCost, ...] | None:
    """The layers in the order of the graph; None where a shape is not known."""
    tensors = tensors_of(model)
    readers = readers_of(model.graph)
    layers: list[Layer] = []
    try:
        for node in model.graph.node:
            if node.op_type in MOVES_NOTHING:
                look_through(node, tensors)
            elif node.op_type in OF_SHAPES or all(tensors.root(name) in tensors.constants for name in data_of(node)):
                tensors.constants.update(node.output)
            else:
                place_node(node, tensors, readers, layers)
    except KeyError:
        return None
    needed = {tensors.root(value.name) for value in model.graph.output}
    for layer in layers:
        needed |= layer.reads.keys()
    return tuple(
        LayerCost(
            layer.name, layer.operations,
            sum(layer.reads.values()) + sum(size for name, size in layer.writes.items() if name in needed),
            layer.arithmetic,
        )
        for layer in layers
    )  # fmt: skip


def tensors_of(model: onnx.ModelProto) -> Tensors:
    """Shapes and types; a shape that is not written is None, as distinct from that of a single number."""
    known = with_shapes(model).graph
    shapes: dict[str, tuple[int, ...] | None] = {}
    types: dict[str, int] = {}
    for value in (*known.input, *known.value_info, *known.output):
        tensor = value.type.tensor_type
        shapes[value.name] = tuple(axis.dim_value for axis in tensor.shape.dim) if tensor.HasField("shape") else None
        types[value.name] = tensor.elem_type
    for constant in model.graph.initializer:
        shapes[constant.name], types[constant.name] = tuple(constant.dims), constant.data_type
    return Tensors(shapes, types, {constant.name for constant in model.graph.initializer})


def readers_of(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """Tensor → the kinds of the operators that read it."""
    readers: dict[str, list[str]] = {value.name: ["output"] for value in graph.output}
    for node in graph.node:
        for name in data_of(node):
            readers.setdefault(name, []).append(node.op_type)
    return readers


def data_of(node: onnx.NodeProto) -> Sequence[str]:
    """The inputs of a node without scales and zero points."""
    every = [name for name in node.input if name]
    return every[:1] if node.op_type in ("QuantizeLinear", "DequantizeLinear") else every


def look_through(node: onnx.NodeProto, tensors: Tensors) -> None:
    """The node's result is its input in memory, seen otherwise."""
    source, result = node.input[0], node.output[0]
    tensors.behind[result] = tensors.root(source)
    if node.op_type == "DequantizeLinear" or source in tensors.dequantized:
        tensors.dequantized.add(result)


def place_node(node: onnx.NodeProto, tensors: Tensors, readers: Mapping[str, list[str]], layers: list[Layer]) -> None:
    """Put the node into the layer before it, or into one of its own; raises KeyError where a shape is unknown."""
    place = joined_layer(node, tensors, readers, layers)
    if place is None:
        place = len(layers)
        foldable = node.op_type in PRODUCTS or node.op_type in POINTWISE
        layers.append(Layer(node.name or node.output[0], arithmetic_of(node, tensors), foldable))
    layer = layers[place]
    layer.operations += operations_of(node, tensors)
    written = [name for name in node.output if name in readers]
    for number, name in enumerate(data_of(node)):
        root = tensors.root(name)
        if tensors.maker.get(root) != place:
            part = node.op_type in PART_READ and number == 0
            layer.reads[root] = tensors.size(root) if not part else sum(tensors.size(each) for each in written)
    for name in written:
        layer.writes[name] = tensors.size(name)
        tensors.maker[name] = place


def joined_layer(
    node: onnx.NodeProto, tensors: Tensors, readers: Mapping[str, list[str]], layers: Sequence[Layer]
) -> int | None:
    """The layer that a function, an addition or a quantizer is folded into: the latest that can wait for it."""
    if node.op_type not in POINTWISE:
        return None
    quantizer = node.op_type == "QuantizeLinear"
    found = [
        place
        for name in data_of(node)
        if (place := tensors.maker.get(tensors.root(name))) is not None
        and (quantizer or (layers[place].foldable and POINTWISE.issuperset(readers[name])))
        and name not in tensors.dequantized
    ]
    return max(found, default=None)


def arithmetic_of(node: onnx.NodeProto, tensors: Tensors) -> Arithmetic:
    """8-bit integers where every factor comes from a dequantizer (or is an integer), else by the type of the result."""
    factors: Iterable[str] = data_of(node)[:2] if node.op_type in PRODUCTS else data_of(node)
    in_floats = [
        name for name in factors
        if name not in tensors.dequantized
        and tensors.types.get(name) not in (TensorProto.INT8, TensorProto.UINT8)
        and (node.op_type in PRODUCTS or name not in tensors.constants)
    ]  # fmt: skip
    if not in_floats and node.op_type != "QuantizeLinear":
        return Arithmetic.INT8
    half = TensorProto.FLOAT16 in (tensors.types.get(name) for name in (*in_floats, node.output[0]))
    return Arithmetic.FP16 if half else Arithmetic.FP32


def operations_of(node: onnx.NodeProto, tensors: Tensors) -> int:
    """Of one operator; raises KeyError where a shape is unknown."""
    if node.op_type in PRODUCTS:
        shapes = {name: shape for name, shape in tensors.shapes.items() if shape is not None}
        macs = macs_of(node, shapes)
        if macs is None:
            raise KeyError(node.name)
        return 2 * macs
    given = tensors.elements(node.output[0])
    if node.op_type in WINDOWS:
        window = next((each.ints for each in node.attribute if each.name == "kernel_shape"), ())
        return given * math.prod(window)
    if node.op_type.startswith(("Global", "Reduce")):
        return tensors.elements(node.input[0])
    return given
