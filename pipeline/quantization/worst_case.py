"""The widest sums that the weights of an integer product allow, whatever the data.

Before VNNI, x86 adds two neighbouring products of unsigned activations u with signed weights w in 16 bits, which
saturate (neighbours.py):

    max over neighbours of one output channel of  u₁·w₁ + u₂·w₂,  lowest ≤ u ≤ highest,   must lie in −32768..32767

Depthwise convolutions and products of unsigned with unsigned run on other kernels, which do not saturate (measured with
ONNX Runtime 1.31 on AVX2).

Inputs that end at code 129 leave any weights of −127..127 exact: 2 · 129 · 127 = 32 766.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, shape_inference

from pipeline.quantization.integer_operators import quantized_values
from pipeline.quantization.neighbours import code_pairs
from pipeline.quantization.quantized_graph import (
    CODE_MOVES,
    PRODUCTS,
    Pair,
    QuantizedGraph,
    attribute,
    name_of,
    quantized_graph,
)

WIDEST = 127  # of a weight of 8 bits, stored symmetrically
SHIFT = 128  # the kernels store int8 activations as uint8 around 128


@dataclass(frozen=True)
class Saturation:
    """One product: the output channel of its widest pair, the codes its input can hold as uint8, that pair's sum.

    can_saturate: with the weights it has · always_exact: not even with other weights of −127..127
    """

    node: str
    channel: int
    codes: tuple[int, int]
    worst_pair_sum: int
    can_saturate: bool
    always_exact: bool


def saturation(model: onnx.ModelProto, *, highest_code: int = 255) -> tuple[Saturation, ...]:
    """Every integer convolution and matrix product, in the order of the graph.

    highest_code: the greatest uint8 code that inputs hold where the graph itself does not limit them further
    """
    graph = quantized_graph(model)
    return tuple(_saturation(node, graph, highest_code) for node in graph.nodes if _is_integer(node, graph))


def exact_at_eight_bits(model: onnx.ModelProto) -> dict[str, bool]:
    """Of every integer product by name, whether weights of 8 bits, whatever they are, are exact without VNNI.

    Its input then holds codes up to 129 (what is never negative and ends at 127), or it runs on a kernel that does not
    saturate. Where this is false, `saturation` tells whether the weights that are there happen to be exact.
    """
    return {each.node: each.always_exact for each in saturation(model)}


def worst_codes(model: onnx.ModelProto, node: str) -> np.ndarray:
    """Codes for the input of one product at which the worst pair, and every other pair of its channel, is widest.

    Of a convolution one place of the output sees them; around its window all is zero.
    """
    graph, product = _found(model, node)
    door = graph.dequantizer(product.input[0])
    if graph.weight(product) is None:
        raise ValueError(f"{node} multiplies two activations: its worst case is not one of its weights.")
    if door is None:
        raise ValueError(f"{node} multiplies codes that are turned before: give the worst codes to what turns them.")
    worst = next(each for each in saturation(model) if each.node == node)
    pair = graph.pair(door)
    stored = graph.multiplied(product)
    low, high = worst.codes
    channel = (stored if _output_first(product) else stored.T)[worst.channel].astype(np.int64)
    chosen = np.where((channel > 0) == (worst.worst_pair_sum > 0), high, low)
    shape = _shape(model, door.input[0])
    shift = SHIFT if pair.zero.dtype == np.int8 else 0
    codes = np.full(shape, int(pair.zero) + shift)
    if product.op_type == "Conv":
        rank, kernel = channel.ndim - 1, channel.shape[1:]
        pads, strides = attribute(product, "pads", [0] * 2 * rank), attribute(product, "strides", [1] * rank)
        window = [slice(None)] * rank
        kept = [slice(None)] * rank
        for axis, apart in enumerate(attribute(product, "dilations", [1] * rank)):
            start = -(-pads[axis] // strides[axis]) * strides[axis] - pads[axis]  # the first that lies inside
            window[axis] = slice(start, min(start + (kernel[axis] - 1) * apart + 1, shape[2 + axis]), apart)
            kept[axis] = slice(0, len(range(*window[axis].indices(shape[2 + axis]))))
        first = worst.channel // (stored.shape[0] // attribute(product, "group", 1)) * stored.shape[1]
        seen = (slice(None), slice(first, first + stored.shape[1]), *window)
        there = (slice(None), *kept)
        codes[seen] = chosen[there]
    else:
        codes[...] = chosen
    return (codes - shift).astype(pair.zero.dtype)


def layer_alone(model: onnx.ModelProto, node: str) -> onnx.ModelProto:
    """One integer step as a model of its own: codes in, codes out (or floats, where no quantizer follows).

    Its first input is that of the product; a convolution with an addition in it has the other branch as its second.
    """
    graph, product = _found(model, node)
    step = next((each for each in graph.steps() if each.node is product), None)
    addition = step.addition if step is not None else None
    read_by = [*product.input, *(addition.input if addition is not None else [])]
    before = [each for name in read_by if (each := graph.dequantizer_behind(name)) is not None]
    turns = [each for name in read_by for each in graph.turns(name)]
    after = [*reversed(step.clips), step.quantize] if step is not None else []
    nodes = [*before, *turns, product, *([addition] if addition is not None else []), *after]
    result = nodes[-1].output[0]
    doors = {each.input[0]: each for each in before if each.input[0] not in graph.constants}
    zero = graph.pair(step.quantize).zero if step is not None else np.float32(0)
    read = {name for each in nodes for name in each.input}
    told = helper.np_dtype_to_tensor_dtype(zero.dtype) if step is not None else TensorProto.FLOAT
    alone = helper.make_graph(
        nodes, node,
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(graph.pair(each).zero.dtype), _shape(model, name)
            )
            for name, each in doors.items()
        ],
        [helper.make_tensor_value_info(result, told, None)],
        [each for each in model.graph.initializer if each.name in read],
    )  # fmt: skip
    made = helper.make_model(alone, opset_imports=model.opset_import, ir_version=model.ir_version)
    return shape_inference.infer_shapes(made)


def _saturation(node: NodeProto, graph: QuantizedGraph, highest_code: int) -> Saturation:
    first, other = graph.dequantizer_behind(node.input[0]), graph.dequantizer_behind(node.input[1])
    assert first is not None and other is not None  # an integer product
    low, high = code_range(graph, first.output[0])
    high = min(high, highest_code)
    if graph.weight(node) is None:
        second = graph.pair(other).zero.dtype
        limits = np.iinfo(second)
        worst = max((2 * high * limits.min, 2 * high * limits.max), key=abs)
        outside = second == np.int8 and not -32768 <= worst <= 32767
        return Saturation(name_of(node), 0, (low, high), int(worst), bool(outside), not outside)
    stored = graph.multiplied(node)
    rows = stored if _output_first(node) else np.swapaxes(stored, -1, -2).reshape(-1, stored.shape[-2])  # (K, C, …)
    pairs = np.concatenate(list(code_pairs(rows)), axis=1)  # (K, n, 2)
    sums = np.maximum(pairs * low, pairs * high).sum(2).max(1)  # (K,)
    least = np.minimum(pairs * low, pairs * high).sum(2).min(1)
    if sums.max() >= -least.min():
        channel, worst = int(sums.argmax()), int(sums.max())
    else:
        channel, worst = int(least.argmin()), int(least.min())
    outside = sums.max() > 32767 or least.min() < -32768
    possible = stored.dtype == np.int8 and not _is_depthwise(node, stored)
    exact = not possible or 2 * WIDEST * high <= 32767
    return Saturation(name_of(node), channel, (low, high), worst, bool(outside and possible), exact)


def code_range(graph: QuantizedGraph, name: str) -> tuple[int, int]:
    """The uint8 codes that a dequantized tensor can hold: all, or what clips before or behind its quantizer leave.

    Moving values leaves them in their range: a tensor that is dequantized, moved and quantized alike keeps its own.
    """
    pair = graph.pair(graph.maker[name])
    limits = np.iinfo(pair.zero.dtype)
    low, high = int(limits.min), int(limits.max)
    source = graph.maker.get(graph.maker[name].input[0])
    while source is not None and source.op_type in CODE_MOVES:
        bounds = graph.bounds(source) if source.op_type == "Clip" else None
        if bounds is not None:
            low, high = int(max(low, bounds[0])), int(min(high, bounds[1]))
        source = graph.maker.get(source.input[0]) if source.op_type != "Pad" else None
    if source is not None and source.op_type == "QuantizeLinear":
        before = graph.maker.get(source.input[0])
        bounds = graph.bounds(before) if before is not None and before.op_type in ("Relu", "Clip") else None
        if bounds is not None:
            low = max(low, int(quantized_values(np.asarray(bounds[0]), pair)))
            high = min(high, int(quantized_values(np.asarray(bounds[1]), pair)))
        elif before is not None and before.op_type in CODE_MOVES and before.op_type not in ("Clip", "Pad"):
            earlier = graph.dequantizer(before.input[0])
            if earlier is not None and _alike(graph.pair(earlier), pair):
                moved = code_range(graph, before.input[0])
                shift = SHIFT if pair.zero.dtype == np.int8 else 0
                low, high = max(low, moved[0] - shift), min(high, moved[1] - shift)
    shift = SHIFT if pair.zero.dtype == np.int8 else 0
    return low + shift, high + shift


def _alike(one: Pair, other: Pair) -> bool:
    same = one.zero.dtype == other.zero.dtype and np.array_equal(one.zero, other.zero)
    return bool(same and np.array_equal(one.scale, other.scale))


def _is_integer(node: NodeProto, graph: QuantizedGraph) -> bool:
    """Whether a runtime may multiply codes: it also finds them behind what only turns them."""
    return node.op_type in PRODUCTS and all(graph.dequantizer_behind(name) is not None for name in node.input[:2])


def _output_first(node: NodeProto) -> bool:
    return node.op_type == "Conv" or bool(attribute(node, "transB", 0))


def _is_depthwise(node: NodeProto, stored: np.ndarray) -> bool:
    return node.op_type == "Conv" and stored.shape[1] == 1 and stored.shape[0] == attribute(node, "group", 1) > 1


def _found(model: onnx.ModelProto, node: str) -> tuple[QuantizedGraph, NodeProto]:
    graph = quantized_graph(model)
    for each in graph.nodes:
        if name_of(each) == node and _is_integer(each, graph):
            return graph, each
    raise ValueError(f"The graph holds no integer product of the name {node!r}.")


def _shape(model: onnx.ModelProto, name: str) -> list[int]:
    """The inferred shape of a tensor, axes without a fixed length taken as 1."""
    known = shape_inference.infer_shapes(model).graph
    for each in (*known.value_info, *known.input, *known.output):
        if each.name == name:
            return [axis.dim_value or 1 for axis in each.type.tensor_type.shape.dim]
    raise ValueError(f"The shape of {name} cannot be inferred.")
