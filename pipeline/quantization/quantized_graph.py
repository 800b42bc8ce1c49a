"""An ONNX graph with explicit quantizers, read: who makes a tensor, who reads it, and which steps are integer ones.

An integer step is what a runtime replaces by one integer operator:

    DequantizeLinear … → Conv | Gemm | MatMul | Add | AveragePool | GlobalAveragePool → (Relu | Clip)* → QuantizeLinear
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

PRODUCTS = ("Conv", "Gemm", "MatMul")
STEPS = (*PRODUCTS, "Add", "AveragePool", "GlobalAveragePool")


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
    """One integer operator: its node, the real range that ReLUs and clips leave, these, and its quantizer."""

    node: NodeProto
    lowest: float
    highest: float
    clips: tuple[NodeProto, ...]
    quantize: NodeProto


@dataclass(frozen=True)
class QuantizedGraph:
    """Constants by name, the maker and the readers of each tensor, the names of the graph's outputs."""

    nodes: tuple[NodeProto, ...]
    constants: dict[str, np.ndarray]
    maker: dict[str, NodeProto]
    readers: dict[str, tuple[NodeProto, ...]]
    outputs: frozenset[str]

    def pair(self, node: NodeProto) -> Pair:
        """Of a QuantizeLinear or DequantizeLinear; a zero point that is left out is 0 of type uint8."""
        zero = self.constants[node.input[2]] if len(node.input) > 2 and node.input[2] else np.uint8(0)
        return Pair(self.constants[node.input[1]], np.asarray(zero), int(attribute(node, "axis", 1)))

    def dequantizer(self, name: str) -> NodeProto | None:
        """The DequantizeLinear that makes this tensor, if one does."""
        node = self.maker.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def weight(self, node: NodeProto) -> NodeProto | None:
        """The DequantizeLinear of stored integers that is the second input of a product."""
        pair = self.dequantizer(node.input[1]) if node.op_type in PRODUCTS else None
        return pair if pair is not None and pair.input[0] in self.constants else None

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
        if node.op_type not in STEPS or not self._is_plain(node):
            return None
        count = 2 if node.op_type in (*PRODUCTS, "Add") else 1
        if any(self.dequantizer(each) is None for each in node.input[:count]):
            return None
        return Step(node, lowest, highest, tuple(clips), quantize)

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
            return self.weight(node) is None or self.constants[self.maker[node.input[1]].input[0]].ndim == 2
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
    )


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute, or what the standard says when it is left out."""
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def name_of(node: NodeProto) -> str:
    """What a person finds the node by."""
    return node.name or node.output[0]
