"""An ONNX graph with explicit quantizers, run in numpy with integer arithmetic, so that two graphs can be compared.

What stands between quantizers and has an integer kernel in ONNX Runtime (quantized_graph.py) is computed on integers;
everything else in float32, node by node, by ONNX's own reference evaluator. Against ONNX Runtime 1.31 on AVX2:

    QuantizeLinear, DequantizeLinear, MaxPool, Pad, Concat, moved values     the same bits
    convolutions, Gemm, MatMul → QuantizeLinear; GlobalAveragePool           the same bits
    Add, AveragePool      the runtime sums in float32, with roundings that depend on the zero point: a sum that falls on
                          the middle of two codes may go to the other one, 1 step away. Additions of random scales: 1
                          element of 400 000; of scales 0.1, 0.3, 0.2: 15 %; averages of 2×2: up to 5 %. `as_avx2`
                          repeats the runtime's roundings, and then these are the same bits too
    last float layers, operators without an integer kernel                   float32 sums in another order

A bias is held without the limit of int32, which the validator checks; nothing saturates in 16 bits, as on VNNI and
ARM64. `float_bias` adds biases as TensorRT is documented to, in floating point, and rounds once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto
from onnx.reference import ReferenceEvaluator

from pipeline.quantization.integer_operators import (
    added,
    averaged,
    averaged_over_all,
    bias_codes,
    centred,
    convolved,
    dequantized_codes,
    quantized_values,
    requantized,
    requantized_in_one,
)
from pipeline.quantization.quantized_graph import Pair, QuantizedGraph, Step, attribute, name_of, quantized_graph
from pipeline.quantization.recurrent_reference import OPERATORS as RECURRENT
from pipeline.quantization.recurrent_reference import recurrent_outputs


@dataclass(frozen=True)
class Difference:
    """One tensor that two graphs disagree on; `largest` counts steps of its scale, None where it is not in both."""

    tensor: str
    elements: int
    of: int
    largest: float | None


def integers_of(
    model: onnx.ModelProto,
    inputs: Mapping[str, np.ndarray],
    *,
    as_avx2: bool = False,
    float_bias: bool = False,
    instead: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Every tensor of the graph by name, integers as integers; what is inside an integer step has no value of its own.

    inputs: of the graph; a name inside the graph replaces what would be computed for it
    as_avx2: additions and averages with the roundings of MLAS's AVX2 kernels
    float_bias: biases are added to the scaled products instead of being rounded to whole s_x·s_w
    instead: by name, what the nodes behind a tensor read in its place; the result still has what was computed
    """
    graph = quantized_graph(model)
    steps = {step.quantize.output[0]: step for step in graph.steps()}
    inside = {name for step in steps.values() for node in step.inside for name in node.output}
    within = {id(node) for step in steps.values() for node in step.inside}
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    values: dict[str, np.ndarray] = {**graph.constants, **inputs}
    computed: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        name = node.output[0]
        if all(each in values or each in inside for each in node.output) or _is_needless(node, graph, within):
            continue
        step = steps.get(name)
        if step is not None:
            found = {name: _integer(step, graph, values, as_avx2=as_avx2, float_bias=float_bias)}
        elif node.op_type == "QuantizeLinear":
            found = {name: quantized_values(values[node.input[0]], graph.pair(node))}
        elif node.op_type == "DequantizeLinear":
            found = {name: dequantized_codes(values[node.input[0]], graph.pair(node))}
        else:
            found = _floating(node, values, opset=opset)
        computed.update(found)
        values.update({each: (instead or {}).get(each, value) for each, value in found.items()})
    return {**inputs, **computed}


def _is_needless(node: NodeProto, graph: QuantizedGraph, within: set[int]) -> bool:
    """A dequantizer that only integer steps read: they take its codes."""
    if node.op_type != "DequantizeLinear" or node.output[0] in graph.outputs:
        return False
    return all(id(reader) in within for reader in graph.readers.get(node.output[0], ()))


def differences(
    canonical: onnx.ModelProto, lowered: onnx.ModelProto, inputs: Mapping[str, np.ndarray], *, float_bias: bool = False
) -> tuple[Difference, ...]:
    """Where a lowered graph departs from the canonical one on these inputs, in the order of the graph; () if nowhere.

    Every tensor that the canonical graph quantizes is compared by its distance from zero in steps, so codes that are
    shifted with their zero point are equal, and every output of the graph bit by bit.

    float_bias: the lowered graph adds its biases in floating point, the canonical one in integers
    """
    ours, theirs = integers_of(canonical, inputs), integers_of(lowered, inputs, float_bias=float_bias)
    one, other = quantized_graph(canonical), quantized_graph(lowered)
    found = []
    for node in one.nodes:
        for name in node.output:
            if name not in ours or not (node.op_type == "QuantizeLinear" or name in one.outputs):
                continue
            left = _steps(name, one, ours)
            right = _steps(name, other, theirs) if name in theirs else None
            if right is None or left.shape != right.shape:
                found.append(Difference(name, left.size, left.size, None))
            elif not np.array_equal(left, right):
                apart = np.abs(left - right)
                found.append(Difference(name, int((apart != 0).sum()), left.size, float(apart.max())))
    return tuple(found)


def _steps(name: str, graph: QuantizedGraph, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """A quantized tensor as whole steps from zero, whichever operator made its codes; others as they are."""
    readers = [each for each in graph.readers.get(name, ()) if each.op_type == "DequantizeLinear"]
    around = readers[0] if readers else graph.quantizer(name)  # before and behind a move
    return centred(values[name], graph.pair(around)) if around is not None else values[name].astype(np.float64)


def _integer(
    step: Step, graph: QuantizedGraph, values: Mapping[str, np.ndarray], *, as_avx2: bool, float_bias: bool
) -> np.ndarray:
    node, outputs = step.node, graph.pair(step.quantize)
    first = graph.maker[node.input[0]]
    codes, pair = values[first.input[0]], graph.pair(first)
    if node.op_type == "GlobalAveragePool":
        result = averaged_over_all(codes, inputs=pair, outputs=outputs)
    elif node.op_type == "AveragePool":
        rank = codes.ndim - 2
        result = averaged(
            codes, inputs=pair, outputs=outputs, kernel=attribute(node, "kernel_shape", []),
            pads=attribute(node, "pads", [0] * 2 * rank), strides=attribute(node, "strides", [1] * rank),
            whole=bool(attribute(node, "count_include_pad", 0)), as_avx2=as_avx2,
        )  # fmt: skip
    else:
        second = graph.maker[node.input[1]]
        if node.op_type == "Add":
            pairs = (pair, graph.pair(second), outputs)
            result = added(codes, values[second.input[0]], pairs, as_avx2=as_avx2)
        else:
            result = _product(step, graph, values, float_bias=float_bias)
    return _clipped(result, step, outputs)


def _product(step: Step, graph: QuantizedGraph, values: Mapping[str, np.ndarray], *, float_bias: bool) -> np.ndarray:
    node, outputs, others = step.node, graph.pair(step.quantize), None
    first, second = graph.maker[node.input[0]], graph.maker[node.input[1]]
    inputs, weight = graph.pair(first), graph.pair(second)
    x, w = centred(values[first.input[0]], inputs), centred(values[second.input[0]], weight)
    axis = 1 if node.op_type == "Conv" else x.ndim - 1
    if node.op_type == "Conv":
        rank = x.ndim - 2
        sums = convolved(
            x, w, pads=attribute(node, "pads", [0] * 2 * rank), strides=attribute(node, "strides", [1] * rank),
            dilations=attribute(node, "dilations", [1] * rank), group=attribute(node, "group", 1),
        )  # fmt: skip
    else:
        sums = x @ (w.T if attribute(node, "transB", 0) else w)
    if step.addition is not None:
        (other,) = (each for name in step.addition.input if (each := graph.dequantizer(name)) is not None)
        others = centred(values[other.input[0]], graph.pair(other)) * graph.pair(other).scale.astype(np.float64)
    biased = len(node.input) > 2 and bool(node.input[2])
    real = biased and float_bias and graph.dequantizer(node.input[2]) is None
    if biased and not real:
        stored = graph.dequantizer(node.input[2])
        if stored is not None:  # int32 already
            bias = centred(values[stored.input[0]], graph.pair(stored))
        else:
            bias = bias_codes(values[node.input[2]], inputs=inputs, weight=weight)
        sums = sums + bias.reshape([-1 if place == axis else 1 for place in range(sums.ndim)])
    if real or others is not None:
        return requantized_in_one(
            sums, inputs=inputs, weight=weight, outputs=outputs, axis=axis, others=others,
            bias=values[node.input[2]] if real else None,
        )  # fmt: skip
    return requantized(sums, inputs=inputs, weight=weight, outputs=outputs, axis=axis)


def _clipped(codes: np.ndarray, step: Step, outputs: Pair) -> np.ndarray:
    """A ReLU or clip in codes: quantizing keeps the order, so it may come first."""
    limits = np.iinfo(codes.dtype)
    lowest, highest = limits.min, limits.max
    if np.isfinite(step.lowest):
        lowest = int(quantized_values(np.asarray(step.lowest), outputs))
    if np.isfinite(step.highest):
        highest = int(quantized_values(np.asarray(step.highest), outputs))
    clipped: np.ndarray = np.clip(codes, lowest, highest)
    return clipped


def _float_convolution(node: NodeProto, parts: list[np.ndarray]) -> np.ndarray:
    """In float64: the evaluator of the standard takes minutes for a large one."""
    rank = parts[0].ndim - 2
    sums = convolved(
        parts[0].astype(np.float64), parts[1].astype(np.float64), pads=attribute(node, "pads", [0] * 2 * rank),
        strides=attribute(node, "strides", [1] * rank), dilations=attribute(node, "dilations", [1] * rank),
        group=attribute(node, "group", 1), whole=False,
    )  # fmt: skip
    if len(parts) > 2:
        sums = sums + parts[2].astype(np.float64).reshape([1, -1, *[1] * rank])
    result: np.ndarray = sums.astype(parts[0].dtype)
    return result


def _floating(node: NodeProto, values: Mapping[str, np.ndarray], *, opset: int) -> dict[str, np.ndarray]:
    feeds: dict[str, Any] = {name: values[name] for name in node.input if name}
    if node.op_type == "Conv" and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET":
        return {node.output[0]: _float_convolution(node, [values[name] for name in node.input if name])}
    try:
        if node.op_type in RECURRENT:
            several = recurrent_outputs(node, [values[name] if name else None for name in node.input])
            return {name: value for name, value in zip(node.output, several, strict=False) if name}
        results: Any = ReferenceEvaluator(node, opsets={"": opset}).run(None, feeds)
    except Exception as error:
        raise ValueError(f"node {name_of(node)} ({node.op_type}) cannot be computed in numpy: {error}") from error
    return {name: np.asarray(value) for name, value in zip(node.output, results, strict=True) if name}
