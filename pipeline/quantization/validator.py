"""What a target's parser or kernels would refuse or silently change in a quantized graph, node by node.

Measured with ONNX Runtime 1.31 on x86 with AVX2 and without VNNI; what stands of TensorRT is known of the parser and
the builder of TensorRT-RTX 1.7.1, which tests/targets/test_tensorrt_rtx_gate.py runs where it is installed:

    ONNX Runtime   8-bit weights saturate in pairs without VNNI · a 1-d activation scale stops the fusion of additions ·
                   a ReLU folds only where the codes end, ReLU6 only at scales up to 6/255 · a bias beyond int32 becomes
                   another number (a channel whose weights are zero has next to no scale) · the scale of an int32 bias
                   is not read · shared weights or zero points stop its exact mode, session.x64quantprecision
    TensorRT       zero points must be 0 · uint8 is read as int8 without a word · int32 biases are refused ·
                   scales must be positive · nothing stands between a quantizer and its dequantizer
    … in float16   numbers end at 65504, small scales lose digits (validator_half.py)
    all            codes of 4 or 16 bits or 8-bit floats, scales per block, one half of a pair (validator_types.py)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto

from pipeline.quantization.integer_operators import bias_codes, quantized_values
from pipeline.quantization.quantized_graph import QuantizedGraph, attribute, name_of, quantized_graph
from pipeline.quantization.validator_half import half_refusals
from pipeline.quantization.validator_types import halves, type_refusals
from pipeline.quantization.worst_case import saturation
from targets.target import Scheme

LIMIT = 2**30  # half of int32: the sum of products, below 255 · 128 · 32 896 inputs, takes the other half
SMALLEST = float(np.finfo(np.float32).tiny)  # below it a scale is rounded to a few digits, or to zero


@dataclass(frozen=True)
class Rules:
    """What one family of runtimes takes. The checks of scales, shapes, weights and sharing hold for all of them."""

    name: str
    saturates: bool  # 8-bit products are added in pairs in 16 bits (x86 before VNNI)
    symmetric_only: bool  # int8 with zero point 0, and nothing else
    quantizes_bias: bool  # a float bias becomes int32 at scale s_x·s_w, and an int32 bias is taken as such
    folds_at_code_ends: bool  # a ReLU before a quantizer vanishes only where its end is that of the codes
    float_bits: int = 32  # 16: half precision around the integers, with strong types


# The saturation: Intel's manual, VPMADDUBSW. The rest: measured with ONNX Runtime 1.31 on AVX2.
ONNX_RUNTIME = Rules("ONNX Runtime on x86 with VNNI", False, False, True, True)
ONNX_RUNTIME_WITHOUT_VNNI = Rules("ONNX Runtime on x86 without VNNI", True, False, True, True)
# The integer dot product of ARM64 adds in 32 bits (SDOT); measured with ONNX Runtime 1.31 on an emulated Cortex-A76.
ONNX_RUNTIME_ON_ARM64 = Rules("ONNX Runtime on ARM64", False, False, True, True)
# Known of the ONNX parser of TensorRT-RTX 1.7.1, which is that of TensorRT 10.
TENSORRT = Rules("TensorRT", False, True, False, False)
TENSORRT_FLOAT16 = Rules("TensorRT", False, True, False, False, float_bits=16)


def rules_from_scheme(scheme: Scheme) -> Rules:
    """int8 around 0 is TensorRT's; uint8 ONNX Runtime's on x86."""
    if scheme.symmetric:
        return TENSORRT_FLOAT16 if scheme.float_bits == 16 else TENSORRT
    if scheme.signed_zero_point == 0:
        return ONNX_RUNTIME_ON_ARM64
    saturates = scheme.sums_in_16_bits or scheme.weight_bits == 7  # for no other reason has a weight 7 bits
    return ONNX_RUNTIME_WITHOUT_VNNI if saturates else ONNX_RUNTIME


def refusals(model: onnx.ModelProto, rules: Rules) -> list[str]:
    """One sentence for each thing that must change before the target gets this graph: where, what, what to do."""
    graph = quantized_graph(model)
    pairs = [node for node in graph.nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    found = [each for node in pairs for each in _computed(node, graph)]
    if found:
        return found  # nothing else is known before the scales are
    found = [each for node in pairs for each in type_refusals(node, graph)]
    if found:
        return found  # the checks below reckon with integers of 8 bits
    found = [each for node in pairs for each in _scales(node, graph)]
    if rules.float_bits == 16:
        found += half_refusals(model, graph)
    sound = not found  # what follows from scales needs sound ones
    between = rules.name if rules.symmetric_only else None
    found += [each for node in pairs for each in halves(node, graph, nothing_between=between)]
    for node in pairs:
        found += [*_zeros(node, graph), *_rereadings(node, graph)]
        if rules.symmetric_only:
            found += _asymmetries(node, graph, rules)
    found += _sharing(graph)
    for node in graph.nodes if sound else ():
        weight = graph.weight(node)
        if weight is not None:
            found += [*_axes(node, weight, graph)] or [*_biases(node, weight, graph, rules)]
    if sound and rules.folds_at_code_ends:
        found += _folds(graph)
    if sound and rules.saturates:
        found += _saturations(model)
    return found


def _computed(node: NodeProto, graph: QuantizedGraph) -> Iterator[str]:
    for name in node.input[1:]:
        if name and name not in graph.constants:
            yield f"{name_of(node)}: {name} is computed in the graph; store scales and zero points as constants."


def _scales(node: NodeProto, graph: QuantizedGraph) -> Iterator[str]:
    scale = graph.pair(node).scale.astype(np.float32)
    bad = ~np.isfinite(scale) | ~(scale >= SMALLEST)
    if bad.any():
        value = np.atleast_1d(scale)[np.flatnonzero(bad)[0]]
        yield (
            f"{name_of(node)}: {int(bad.sum())} of {scale.size} scales are {value:g}; a scale must be finite and at "
            f"least {SMALLEST:.2g}."
        )
    if scale.ndim and not _is_stored(node, graph):
        yield f"{name_of(node)}: the scale of an activation has shape {scale.shape}; store it as a scalar."


def _zeros(node: NodeProto, graph: QuantizedGraph) -> Iterator[str]:
    where, zero = name_of(node), graph.pair(node).zero
    if _is_stored(node, graph):
        if zero.dtype == np.uint8:
            yield f"{where}: a weight is stored as uint8; store it as int8 with zero point 0."
        elif zero.any():
            yield f"{where}: a weight or bias has zero point {_first(zero)}; quantize it symmetrically, around 0."
    elif zero.ndim:
        yield f"{where}: the zero point of an activation has shape {zero.shape}; store it as a scalar."


def _asymmetries(node: NodeProto, graph: QuantizedGraph, rules: Rules) -> Iterator[str]:
    where, zero, stored = name_of(node), graph.pair(node).zero, _is_stored(node, graph)
    if stored and zero.dtype == np.int32:
        yield f"{where}: {rules.name} takes no int32 bias; store the bias as float32."
    elif not stored and zero.dtype == np.uint8:
        yield f"{where}: {rules.name} takes uint8 codes for int8 ones, which end at 127; train and store int8."
    elif not stored and zero.any():
        yield f"{where}: {rules.name} takes zero point 0 only, and this is {_first(zero)}; quantize symmetrically."


def _rereadings(node: NodeProto, graph: QuantizedGraph) -> Iterator[str]:
    written = graph.quantizer(node.input[0])
    if node.op_type != "DequantizeLinear" or written is None:
        return
    ours, theirs = graph.pair(node), graph.pair(written)
    same = all(
        np.array_equal(np.ravel(one), np.ravel(other), equal_nan=one.dtype.kind == "f")  # NaN is refused by another
        for one, other in ((ours.scale, theirs.scale), (ours.zero, theirs.zero))
    )
    if not same or ours.zero.dtype != theirs.zero.dtype:
        yield f"{name_of(node)}: it has another scale or zero point than {name_of(written)} has; give both the same."


def _sharing(graph: QuantizedGraph) -> Iterator[str]:
    for name in graph.constants:
        readers = [
            each for each in graph.readers.get(name, ())
            if each.op_type in ("QuantizeLinear", "DequantizeLinear") and name in (each.input[0], *each.input[2:])
        ]  # fmt: skip
        if len(readers) > 1:
            first, second = (name_of(each) for each in readers[:2])
            yield f"{second}: shares the constant {name} with {first}; give every reader a constant of its own."


def _axes(node: NodeProto, weight: NodeProto, graph: QuantizedGraph) -> Iterator[str]:
    """Scales on another axis than that of the outputs, once the weight stands as it is multiplied."""
    pair, stored = graph.pair(weight), graph.constants[weight.input[0]]
    if not pair.scale.ndim:
        return
    fits = pair.scale.size == stored.shape[pair.axis % stored.ndim]
    places = np.broadcast_to(pair.spread(np.arange(pair.scale.size), stored.ndim), stored.shape) if fits else stored
    scales = graph.turned(node.input[1], places)  # which scale each weight has
    outputs = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else scales.ndim - 1
    of_each = np.moveaxis(scales, outputs, 0).reshape(scales.shape[outputs], -1)
    if not fits or (of_each != np.arange(len(of_each))[:, None]).any():
        yield f"{name_of(node)}: its weight has scales on axis {pair.axis}; give it one per output, on axis {outputs}."


def _biases(node: NodeProto, weight: NodeProto, graph: QuantizedGraph, rules: Rules) -> Iterator[str]:
    source = graph.dequantizer(node.input[0])
    if source is None or len(node.input) < 3 or not node.input[2]:
        return
    where, inputs, pair = name_of(node), graph.pair(source), graph.pair(weight)
    stored = graph.dequantizer(node.input[2])
    if stored is not None:
        product = (inputs.scale * pair.scale).astype(np.float32)
        # A float32 product is off by half a unit in the last place, 6e-8; so is a wider one that was rounded.
        if rules.quantizes_bias and not np.allclose(graph.pair(stored).scale, product, rtol=2e-7, atol=0):
            yield f"{where}: the scale of its int32 bias is not s_x·s_w, which {rules.name} takes it for; store that."
            return
    values = graph.constants.get(stored.input[0] if stored is not None else node.input[2])
    if values is None:
        return
    if not np.isfinite(values).all():
        yield f"{where}: its bias holds {values[~np.isfinite(values)][0]:g}; the network was not trained to an end."
    elif rules.quantizes_bias:
        steps = np.abs(
            bias_codes(values, inputs=inputs, weight=pair) if stored is None else values.astype(np.float64)
        )  # what a lowering stored was cut to int32 there
        if not (steps <= LIMIT).all():
            place = int(np.argmax(~(steps <= LIMIT)))
            scale = np.broadcast_to(pair.scale, values.shape)[place]
            yield (
                f"{where}: the bias of output {place} is {steps[place]:.2g} steps of s_x·s_w, and {LIMIT:.2g} are safe "
                f"in int32; raise the scale of its input ({inputs.scale:.2g}) or of those weights ({scale:.2g})."
            )


def _folds(graph: QuantizedGraph) -> Iterator[str]:
    for step in graph.steps():
        if not step.clips:
            continue
        pair = graph.pair(step.quantize)
        limits, where, behind = np.iinfo(pair.zero.dtype), name_of(step.clips[-1]), name_of(step.node)
        low, high = (int(quantized_values(np.asarray(end), pair)) for end in (step.lowest, step.highest))
        if low != limits.min:
            yield (
                f"{where}: it ends at code {low} where the codes end at {limits.min}, so {behind} stays float; "
                "store that tensor as uint8 with zero point 0."
            )
        elif high != limits.max:
            wanted = step.highest / (limits.max - int(pair.zero))
            yield (
                f"{where}: it ends at code {high} where the codes end at {limits.max}, so {behind} stays float; "
                f"lower the scale of {name_of(step.quantize)} to {wanted:.4g}, or train with a ReLU."
            )


def _saturations(model: onnx.ModelProto) -> Iterator[str]:
    for each in saturation(model):
        if each.can_saturate:
            yield (
                f"{each.node}: two products of output {each.channel} can add up to {each.worst_pair_sum}, beyond "
                "16 bits; quantize it for this target, where neighbours add up to 128, or to 7 bits, −63..63."
            )


def _is_stored(node: NodeProto, graph: QuantizedGraph) -> bool:
    """Whether it reads stored integers: a weight or a bias."""
    return node.op_type == "DequantizeLinear" and node.input[0] in graph.constants


def _first(zero: np.ndarray) -> int:
    return int(np.atleast_1d(zero)[np.flatnonzero(zero)[0]])
