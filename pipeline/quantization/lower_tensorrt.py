"""Leave the convolution's branch of a residual sum unquantized, so that TensorRT adds before it rounds.

    canonical   Conv → Q(s_c) → DQ ─┐                    lowered   Conv ──────────────┐
                 other: Q → DQ ─────┴ Add → (Relu) → Q(s_y)         other: Q → DQ ─────┴ Add → (Relu) → Q(s_y)

This is TensorRT's one fused kernel, and the one lowering that changes the arithmetic: the convolution is no longer
rounded to 8 bits before the addition. Given the same codes, every other tensor is the same, and the sum differs by

    at most  ⌊ (s_c / 2 + e) / s_y ⌋ + 1   codes,

since rounding moves a value by half a step, and what lies beyond the last code by e, its distance from it. A ReLU and
the saturation of the sum bring two values no further apart. A student that was trained without that quantizer has
none to drop, and is the same everywhere.

Letters: s_c scale of the dropped pair, s_y of the sum, e distance beyond the range of the dropped pair (0 inside it).
Source: NVIDIA, TensorRT documentation, "Working with quantized types", on residual connections. Where both branches
are convolutions, the deeper one is left unquantized, as NVIDIA's own toolkits do with the shortcut's quantizer.
"""

import math
from dataclasses import dataclass

import onnx
from onnx import NodeProto

from pipeline.quantization.lower_codes import unread_dropped
from pipeline.quantization.quantized_graph import QuantizedGraph, name_of, quantized_graph


@dataclass(frozen=True)
class FusedAddition:
    """A residual sum that takes a convolution in unrounded: its node, the codes that vanish, both scales."""

    addition: str
    dropped: str
    dropped_scale: float
    sum_scale: float

    def largest_difference(self, *, beyond: float = 0.0) -> int:
        """By how many codes the sum can differ from the canonical one.

        beyond: how far the convolution's values lie outside the range of the dropped pair
        """
        return math.floor((self.dropped_scale / 2 + beyond) / self.sum_scale) + 1


def fused_additions(model: onnx.ModelProto) -> tuple[FusedAddition, ...]:
    """Every sum that `additions_fused` changes, in the order of the graph."""
    graph = quantized_graph(model)
    found = []
    for addition, dropped, total in _fusable(graph):
        scales = (float(graph.pair(each).scale) for each in (dropped, total))
        found.append(FusedAddition(name_of(addition), dropped.output[0], *scales))
    return tuple(found)


def additions_fused(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which one convolution of each residual sum is added as it is."""
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    graph = quantized_graph(lowered)
    for addition, quantize, _ in _fusable(graph):
        (dequantize,) = graph.readers[quantize.output[0]]
        place = list(addition.input).index(dequantize.output[0])
        addition.input[place] = quantize.input[0]
        lowered.graph.node.remove(quantize)
        lowered.graph.node.remove(dequantize)
    unread_dropped(lowered)
    return lowered


def _fusable(graph: QuantizedGraph) -> list[tuple[NodeProto, NodeProto, NodeProto]]:
    """(the addition, the quantizer to drop, the quantizer of the sum)."""
    depth: dict[str, int] = {}
    for node in graph.nodes:
        deepest = 1 + max((depth.get(name, 0) for name in node.input), default=0)
        depth.update(dict.fromkeys(node.output, deepest))
    found = []
    for step in graph.steps():
        if step.node.op_type == "Add":
            branches = [each for name in step.node.input if (each := _convolution_quantizer(graph, name)) is not None]
            if branches:
                found.append((step.node, max(branches, key=lambda each: depth[each.output[0]]), step.quantize))
    return found


def _convolution_quantizer(graph: QuantizedGraph, name: str) -> NodeProto | None:
    """The quantizer behind an input of an addition, if it holds a convolution that nothing else reads."""
    dequantize = graph.dequantizer(name)
    quantize = graph.maker.get(dequantize.input[0]) if dequantize is not None else None
    if quantize is None or quantize.op_type != "QuantizeLinear" or quantize.output[0] in graph.outputs:
        return None
    if len(graph.readers[name]) != 1 or len(graph.readers[quantize.output[0]]) != 1:
        return None
    step = graph.step_before(quantize)
    return quantize if step is not None and step.node.op_type == "Conv" and not step.clips else None
