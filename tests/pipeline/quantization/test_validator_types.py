"""Types that no target computes with, quantizers without their other half, and what stands between the two."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.quantization.lower_pad import padded_in_integers
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.validator import (
    ONNX_RUNTIME,
    ONNX_RUNTIME_ON_ARM64,
    ONNX_RUNTIME_WITHOUT_VNNI,
    TENSORRT,
    Rules,
    refusals,
)
from targets.devices.x86_cpu import scheme_from_features
from targets.schemes import ARM64
from targets.schemes import TENSORRT as TENSORRT_SCHEME

MakeGraph = Callable[..., onnx.ModelProto]
Change = Callable[..., onnx.ModelProto]
Find = Callable[..., onnx.NodeProto]
SEVEN = scheme_from_features(())
EVERY = (ONNX_RUNTIME_WITHOUT_VNNI, ONNX_RUNTIME_ON_ARM64, TENSORRT)


def made(canonical_of: MakeGraph, rules: Rules) -> onnx.ModelProto:
    """A small exported network in the form of these rules' target."""
    scheme = {TENSORRT: TENSORRT_SCHEME, ONNX_RUNTIME_ON_ARM64: ARM64, ONNX_RUNTIME_WITHOUT_VNNI: SEVEN}[rules]
    model = lowered_for(canonical_of("mixed", scheme), scheme)
    assert refusals(model, rules) == []
    return model


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TensorProto.INT4, "int4"), (TensorProto.UINT4, "uint4"), (TensorProto.FLOAT8E4M3FN, "float8_e4m3fn"),
        (TensorProto.INT16, "int16"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rules", EVERY, ids=lambda rules: rules.name)
def test_4_other_types_of_codes_are_refused_by_name_in_activations_and_weights(
    kind: int, name: str, rules: Rules, canonical_of: MakeGraph, node_of: Find, weight_of: Find
) -> None:
    model = made(canonical_of, rules)
    quantize, weight = node_of(model, "QuantizeLinear"), weight_of(model)
    model = retyped(model, quantize.input[2], kind)
    model = retyped(model, weight.input[0], kind)
    found = refusals(model, rules)
    wanted = "; int8 is what every kernel here computes with, so store that."
    assert f"{quantize.name}: its codes are {name}{wanted}" in found
    assert f"{weight.name}: its codes are {name}{wanted}" in found


def retyped(model: onnx.ModelProto, name: str, kind: int) -> onnx.ModelProto:
    """In place: one constant as zeros of another type, which takes no storing of values."""
    constant = next(each for each in model.graph.initializer if each.name == name)
    shape = list(constant.dims)
    constant.CopyFrom(helper.make_tensor(name, kind, shape, np.zeros(shape).ravel()))
    return model


@pytest.mark.parametrize("rules", EVERY, ids=lambda rules: rules.name)
def test_a_scale_per_channel_of_an_activation_is_refused_with_its_8_channels(
    rules: Rules, canonical_of: MakeGraph, changed: Change, node_of: Find
) -> None:
    model = made(canonical_of, rules)
    quantize = node_of(model, "QuantizeLinear", 1)
    kept = next(each for each in model.graph.initializer if each.name == quantize.input[1])
    scales = np.full(8, numpy_helper.to_array(kept))
    said = refusals(changed(model, quantize.input[1], scales), rules)
    assert f"{quantize.name}: the scale of an activation has shape (8,); store it as a scalar." in said


@pytest.mark.parametrize("rules", EVERY, ids=lambda rules: rules.name)
def test_1_quantizer_without_its_dequantizer_and_1_dequantizer_without_a_quantizer_are_named(
    rules: Rules, canonical_of: MakeGraph, node_of: Find
) -> None:
    model = made(canonical_of, rules)
    quantize = node_of(model, "QuantizeLinear")
    codes = quantize.output[0]
    model.graph.output.append(helper.make_tensor_value_info(codes, TensorProto.INT8, None))
    assert refusals(model, rules) == [
        f"{quantize.name}: no DequantizeLinear reads its codes; add one, so that {codes} leaves as floats."
    ]
    model.graph.output.pop()
    model.graph.node.append(helper.make_node("Cast", [codes], ["as float"], to=TensorProto.FLOAT, name="cast"))
    assert refusals(model, rules) == [f"{quantize.name}: cast (Cast) reads its codes; dequantize them first."]
    model.graph.node.pop()
    model.graph.node.remove(quantize)
    model.graph.input[0].name = codes
    (reader,) = (node for node in model.graph.node if codes in node.input)
    assert refusals(model, rules) == [
        f"{reader.name}: no QuantizeLinear makes the codes {codes}; add one, or take in floats."
    ]


def test_scales_per_block_and_1_type_from_an_attribute_are_refused(
    canonical_of: MakeGraph, node_of: Find, weight_of: Find
) -> None:
    model = made(canonical_of, ONNX_RUNTIME_WITHOUT_VNNI)
    quantize, weight = node_of(model, "QuantizeLinear"), weight_of(model)
    weight.attribute.append(helper.make_attribute("block_size", 16))
    quantize.attribute.append(helper.make_attribute("output_dtype", TensorProto.UINT8))
    assert sorted(refusals(model, ONNX_RUNTIME)) == sorted([
        f"{weight.name}: it has a scale per block of values; give it one per tensor or per output channel.",
        f"{quantize.name}: it takes the type of its codes from an attribute; take it from a zero point instead.",
    ])  # fmt: skip


def test_padding_in_integers_is_for_onnx_runtime_and_refused_for_1_runtime_by_name(
    canonical_of: MakeGraph, node_of: Find
) -> None:
    model = lowered_for(canonical_of("option A", TENSORRT_SCHEME), TENSORRT_SCHEME)
    assert refusals(model, TENSORRT) == []
    padded = padded_in_integers(model)
    pad = node_of(padded, "Pad")
    said = refusals(padded, TENSORRT)
    # TensorRT-RTX 1.7.1 stops there too: a quantized constant is allowed before a DequantizeLinear only.
    assert f"{pad.name} (Pad) stands before its DequantizeLinear, which TensorRT wants right behind it" in said[0]
    assert len(said) == sum(node.op_type == "Pad" for node in padded.graph.node) == 2
    assert refusals(lowered_for(canonical_of("option A", SEVEN), SEVEN), ONNX_RUNTIME) == []
