"""Half precision: what it cannot hold is named by its node, in the graph of a small exported network."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from pipeline.quantization.lower_float16 import floats_halved
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.validator import TENSORRT, TENSORRT_FLOAT16, refusals
from targets.schemes import TENSORRT as SCHEME

MakeGraph = Callable[..., onnx.ModelProto]
Change = Callable[..., onnx.ModelProto]
Find = Callable[..., onnx.NodeProto]


def float32_graph(canonical_of: MakeGraph) -> onnx.ModelProto:
    return lowered_for(canonical_of("mixed", SCHEME), SCHEME)


def scales_of(model: onnx.ModelProto, name: str) -> np.ndarray:
    scales: np.ndarray = numpy_helper.to_array(next(each for each in model.graph.initializer if each.name == name))
    return np.array(scales)


def test_a_bias_of_100_000_and_a_scale_below_2_to_the_minus_17_are_named(
    canonical_of: MakeGraph, changed: Change, node_of: Find, weight_of: Find
) -> None:
    wide = float32_graph(canonical_of)
    gemm, weight = node_of(wide, "Gemm", -1), weight_of(wide)
    changed(wide, gemm.input[2], np.array([0, 1e5, 0, 0], np.float32))
    scales = scales_of(wide, weight.input[1])
    scales[2] = 1.5e-6  # 25 steps of 2⁻²⁴: five digits
    changed(wide, weight.input[1], scales)
    assert refusals(wide, TENSORRT) == []  # float32 holds both
    narrow = changed(
        floats_halved(wide), weight.input[1], scales.astype(np.float16)
    )  # as no lowering of ours leaves it
    first, second = sorted(refusals(narrow, TENSORRT_FLOAT16), key=lambda said: said.startswith(gemm.name))
    assert first.startswith(f"{weight.name}: 1 of 8 scales are below 7.6e-06, where float16 has less than 8 digits")
    assert second.startswith(f"{gemm.name}: its constant {gemm.input[2]} holds a value beyond 65504")


def test_a_scale_of_2_to_the_minus_17_is_taken_and_1_of_half_of_it_is_not(
    canonical_of: MakeGraph, changed: Change, weight_of: Find
) -> None:
    for exponent, refused in ((-17, 0), (-18, 1)):
        narrow = floats_halved(float32_graph(canonical_of))
        weight = weight_of(narrow)
        scales = scales_of(narrow, weight.input[1])
        scales[5] = 2.0**exponent
        assert len(refusals(changed(narrow, weight.input[1], scales), TENSORRT_FLOAT16)) == refused


def test_7_channels_of_next_to_nothing_beside_a_larger_one_are_taken_and_8_among_themselves_are_refused(
    canonical_of: MakeGraph, changed: Change, weight_of: Find
) -> None:
    for largest, refused in ((2.0**-14, 0), (2.0**-15, 1)):
        wide = float32_graph(canonical_of)
        scales = np.full(8, 4.8e-7, np.float32)  # as in a published ResNet-20
        scales[3] = largest
        narrow = floats_halved(changed(wide, weight_of(wide).input[1], scales))
        assert len(refusals(narrow, TENSORRT_FLOAT16)) == refused


def test_a_scale_of_600_takes_code_128_beyond_65504(canonical_of: MakeGraph, changed: Change, node_of: Find) -> None:
    narrow = floats_halved(float32_graph(canonical_of))
    quantize = node_of(narrow, "QuantizeLinear", 1)
    for node in narrow.graph.node:
        if quantize.output[0] in (*node.input[:1], *node.output):
            changed(narrow, node.input[1], np.float16(600))  # 128 · 600 = 76 800
    said = refusals(narrow, TENSORRT_FLOAT16)
    assert said[0].startswith(f"{quantize.name}: the scale 600 takes code 128 beyond 65504, where float16 ends")
    assert len(said) == 2  # the quantizer and its dequantizer


def test_a_scale_of_1e_minus_9_is_0_in_half_precision_and_refused_as_that(
    canonical_of: MakeGraph, changed: Change, weight_of: Find
) -> None:
    wide = float32_graph(canonical_of)
    weight = weight_of(wide)
    changed(wide, weight.input[1], np.full(8, 1e-9, np.float32))
    said = refusals(floats_halved(wide), TENSORRT_FLOAT16)
    assert said[0].startswith(f"{weight.name}: 8 of 8 scales are 0; ")


def test_float32_left_in_a_graph_of_half_precision_is_named_with_its_1_node(
    canonical_of: MakeGraph, changed: Change, node_of: Find
) -> None:
    model = floats_halved(float32_graph(canonical_of))
    gemm = node_of(model, "Gemm", -1)
    changed(model, gemm.input[2], np.zeros(4, np.float32))
    assert refusals(model, TENSORRT_FLOAT16) == [
        f"{gemm.name}: its constant {gemm.input[2]} is float32 in a float16 graph; store it as float16."
    ]
    said = refusals(float32_graph(canonical_of), TENSORRT_FLOAT16)
    assert said[0].startswith("The graph uses operator set 17")
    assert any(each.startswith("input: this input or output is float32") for each in said)
