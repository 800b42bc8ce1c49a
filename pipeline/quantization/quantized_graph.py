"""An ONNX graph with explicit quantizers, read: who makes a tensor, who reads it, and which steps are integer ones.

An integer step is what a runtime replaces by one integer operator:

    DequantizeLinear … → Conv | Gemm | MatMul | Add | AveragePool | GlobalAveragePool → (Relu | Clip)* → QuantizeLinear
    DequantizeLinear … → Conv → Add(DequantizeLinear) → (Relu | Clip)* → QuantizeLinear      TensorRT only
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

PRODUCTS = ("Conv", "Gemm", "MatMul")
STEPS = (*PRODUCTS, "Add", "AveragePool", "GlobalAveragePool")
# What moves codes, or cuts them, between a quantizer and its dequantizer.
CODE_MOVES = ("Clip", "Pad", "MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Identity")
# What gives the values of its first input another shape or order, each once: a runtime looks through it, or folds it.
TURNS = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")


@dataclass(frozen=True)
class Pair:
    """Scale and zero point of one tensor: 0-d for all of it, or 1-d along `axis`."""

    scale: np.ndarray
    zero: np.ndarray
    axis: int

    def spread(self, values: np.ndarray, rank: int) -> np.ndarray:
        """The scale or the zero point in a shape that broadcasts against a tensor of this rank."""
        return (
            values.reshape([-1 if place == self.axis % rank else 1 for place in range(rank)]) if values.ndim else values
        )


@dataclass(frozen=True)
class Step:
    """One integer operator: its node, the real range that ReLUs and clips leave, these, and its quantizer.

    addition: where a convolution takes the other branch of a sum in before it rounds
    """

    node: NodeProto
    lowest: float
    highest: float
    clips: tuple[NodeProto, ...]
    quantize: NodeProto
    addition: NodeProto | None = None

    @property
    def inside(self) -> tuple[NodeProto, ...]:
        """The nodes before the quantizer, which become one with it."""
        return (self.node, *([self.addition] if self.addition is not None else []), *self.clips)


@dataclass(frozen=True)
class QuantizedGraph:
    """Constants by name, the maker and the readers of each tensor, the names of the graph's outputs, ONNX's version."""

    nodes: tuple[NodeProto, ...]
    constants: dict[str, np.ndarray]
    maker: dict[str, NodeProto]
    readers: dict[str, tuple[NodeProto, ...]]
    outputs: frozenset[str]
    opset: int

    def pair(self, node: NodeProto) -> Pair:
        """Of a QuantizeLinear or DequantizeLinear; a zero point that is left out is 0, of the stored type or uint8."""
        stored = self.constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        zero = np.zeros((), np.uint8 if stored is None else stored.dtype)
        if len(node.input) > 2 and node.input[2]:
            zero = self.constants[node.input[2]]
        return Pair(self.constants[node.input[1]], np.asarray(zero), int(attribute(node, "axis", 1)))

    def dequantizer(self, name: str) -> NodeProto | None:
        """The DequantizeLinear that makes this tensor, if one does."""
        node = self.maker.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def dequantizer_behind(self, name: str) -> NodeProto | None:
        """The DequantizeLinear whose values this tensor holds, in whatever shape and order."""
        for node in self.turns(name)[:1]:
            name = node.input[0]
        return self.dequantizer(name)

    def turns(self, name: str) -> tuple[NodeProto, ...]:
        """What gives the values of a tensor their shape and order, the first one first."""
        found: tuple[NodeProto, ...] = ()
        while (node := self.maker.get(name)) is not None and node.op_type in TURNS:
            found, name = (node, *found), node.input[0]
        return found

    def turned(self, name: str, stored: np.ndarray) -> np.ndarray:
        """Stored values in the shape and order of this tensor, which is made of them by turning alone."""
        opset = {"": self.opset}
        for node in self.turns(name):
            given = {each: self.constants[each] for each in node.input[1:] if each}
            results: Any = ReferenceEvaluator(node, opsets=opset).run(None, {node.input[0]: stored, **given})
            stored = np.asarray(results[0])
        return stored

    def weight(self, node: NodeProto) -> NodeProto | None:
        """The DequantizeLinear of stored integers that is the second input of a product, turned or not."""
        pair = self.dequantizer_behind(node.input[1]) if node.op_type in PRODUCTS else None
        if pair is None or pair.input[0] not in self.constants:
            return None
        shapes = [name for turn in self.turns(node.input[1]) for name in turn.input[1:] if name]
        return pair if all(name in self.constants for name in shapes) else None  # else it is as good as an activation

    def multiplied(self, node: NodeProto) -> np.ndarray:
        """The stored integers of a product's weight, in the shape and order in which it multiplies them."""
        weight = self.weight(node)
        assert weight is not None, f"{name_of(node)} has no stored weight"
        return self.turned(node.input[1], self.constants[weight.input[0]])

    def is_quantized(self, name: str) -> bool:
        """Whether a quantizer reads the tensor, behind ReLUs and clips or not."""
        readers = self.readers.get(name, ())
        clipped = [each.output[0] for each in readers if each.op_type in ("Relu", "Clip")]
        return any(each.op_type == "QuantizeLinear" for each in readers) or any(map(self.is_quantized, clipped))

    def quantizer(self, name: str) -> NodeProto | None:
        """The QuantizeLinear that makes these codes, if one does, also when they are moved or cut behind it."""
        node = self.maker.get(name)
        while node is not None and node.op_type in CODE_MOVES:
            node = self.maker.get(node.input[0])
        return node if node is not None and node.op_type == "QuantizeLinear" else None

    def step_before(self, quantize: NodeProto) -> Step | None:
        """The integer step that ends with this QuantizeLinear."""
        lowest, highest, clips, name = -np.inf, np.inf, [], quantize.input[0]
        while True:
            node = self.maker.get(name)
            if node is None or len(self.readers[name]) != 1 or name in self.outputs:
                return None
            if node.op_type not in ("Relu", "Clip"):
                break
            bounds = self.bounds(node)
            if bounds is None:
                return None
            lowest, highest, name = max(lowest, bounds[0]), min(highest, bounds[1]), node.input[0]
            clips.append(node)
        addition, taken = None, self._convolution_into(node)
        if taken is not None:
            node, addition = taken, node
        if node.op_type not in STEPS or not self._is_plain(node):
            return None
        count = 2 if node.op_type in (*PRODUCTS, "Add") else 1
        if any(self.dequantizer(each) is None for each in node.input[:count]):
            return None
        return Step(node, lowest, highest, tuple(clips), quantize, addition)

    def steps(self) -> tuple[Step, ...]:
        """Every integer step, in the order of the graph."""
        found = (self.step_before(node) for node in self.nodes if node.op_type == "QuantizeLinear")
        return tuple(step for step in found if step is not None)

    def bounds(self, node: NodeProto) -> tuple[float, float] | None:
        """What a Relu or a Clip leaves; None when the limits of a Clip are computed."""
        if node.op_type == "Relu":
            return 0.0, np.inf
        limits = [-np.inf, np.inf]
        for place, name in enumerate(node.input[1:3]):
            if name and name not in self.constants:
                return None
            if name:
                limits[place] = float(self.constants[name])
        return limits[0], limits[1]

    def _convolution_into(self, node: NodeProto) -> NodeProto | None:
        """The convolution that an addition takes in as it is, the other branch being dequantized."""
        if node.op_type != "Add":
            return None
        for one, other in (tuple(node.input), tuple(node.input)[::-1]):
            made = self.maker.get(one)
            alone = len(self.readers[one]) == 1 and one not in self.outputs
            if made is not None and made.op_type == "Conv" and alone and self.dequantizer(other) is not None:
                return made
        return None

    def _is_plain(self, node: NodeProto) -> bool:
        """Without the settings that no integer kernel has."""
        if node.op_type == "Gemm":
            return (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0), attribute(node, "transA", 0)) == (
                1,
                1,
                0,
            )
        if node.op_type == "AveragePool" and attribute(node, "ceil_mode", 0):
            return False
        if node.op_type == "MatMul":
            return self.weight(node) is None or self.multiplied(node).ndim == 2
        return bool(attribute(node, "auto_pad", b"NOTSET") == b"NOTSET")


def quantized_graph(model: onnx.ModelProto) -> QuantizedGraph:
    """Read a model; nodes without a name get their kind and place."""
    readers: dict[str, tuple[NodeProto, ...]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers[name] = (*readers.get(name, ()), node)
    return QuantizedGraph(
        nodes=tuple(model.graph.node),
        constants={each.name: numpy_helper.to_array(each) for each in model.graph.initializer},
        maker={name: node for node in model.graph.node for name in node.output},
        readers=readers,
        outputs=frozenset(each.name for each in model.graph.output),
        opset=next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 1),
    )


def with_nodes(
    model: onnx.ModelProto, nodes: Sequence[NodeProto], constants: Sequence[onnx.TensorProto]
) -> onnx.ModelProto:
    """A copy of `model` with these nodes, in their order, and these constants: those of both that something reads."""
    wanted = {each.name for each in model.graph.output}
    kept: list[NodeProto] = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.insert(0, node)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:], changed.graph.initializer[:]
    changed.graph.node.extend(kept)
    changed.graph.initializer.extend(each for each in constants if each.name in wanted)
    return changed


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute, or what the standard says when it is left out."""
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def name_of(node: NodeProto) -> str:
    """What a person finds the node by."""
    return node.name or node.output[0]
