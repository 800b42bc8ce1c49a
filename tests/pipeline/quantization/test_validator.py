"""The validator passes what our own lowering makes, and names each thing that a target would refuse or change."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.integer_reference import integers_of
from pipeline.quantization.lower_unsigned import activations_unsigned
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.validator import (
    ONNX_RUNTIME,
    ONNX_RUNTIME_ON_ARM64,
    ONNX_RUNTIME_WITHOUT_VNNI,
    TENSORRT,
    TENSORRT_FLOAT16,
    Rules,
    refusals,
    rules_from_scheme,
)
from pipeline.stages.export import onnx_of
from targets.devices.x86_cpu import scheme_from_features
from targets.reach.local import is_x86
from targets.schemes import ARM64
from targets.schemes import TENSORRT as FUSED
from targets.schemes import TENSORRT_FLOAT16 as HALF
from targets.target import Scheme

Change = Callable[..., onnx.ModelProto]
Find = Callable[..., onnx.NodeProto]
EVERY = (ONNX_RUNTIME, ONNX_RUNTIME_WITHOUT_VNNI, ONNX_RUNTIME_ON_ARM64, TENSORRT)
SEVEN, EIGHT = scheme_from_features(()), scheme_from_features(("avx_vnni",))
SYMMETRIC = Scheme(weight_bits=8, unsigned_activations=False, signed_zero_point=0, why="TensorRT's")
SHAPE = (3, 8, 8)


class Small(nn.Module):
    """Two convolutions, a sum and the answers; the activation is asked for."""

    def __init__(self, act: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.first, self.second, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), act()
        self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        x = self.act(x + self.second(x))
        return self.last(torch.flatten(self.pool(self.second(x)), 1))  # type: ignore[no-any-return]


def made(scheme: Scheme, *, network: nn.Module | None = None, amax: float = 2.0) -> onnx.ModelProto:
    torch.manual_seed(0)
    graph, placement = watched((network or Small()).eval())
    ranges = dict.fromkeys(placement.activations, amax)
    return lowered_for(onnx_of(quantized(graph, placement, amax=ranges, scheme=scheme), input_shape=SHAPE), scheme)


@pytest.mark.parametrize(
    ("scheme", "rules"),
    [
        (SEVEN, ONNX_RUNTIME_WITHOUT_VNNI), (EIGHT, ONNX_RUNTIME), (ARM64, ONNX_RUNTIME_ON_ARM64),
        (SYMMETRIC, TENSORRT), (FUSED, TENSORRT), (HALF, TENSORRT_FLOAT16),
    ],
)  # fmt: skip
def test_our_6_lowerings_pass_the_rules_of_their_own_target(scheme: Scheme, rules: Rules) -> None:
    assert rules_from_scheme(scheme) is rules
    assert refusals(made(scheme), rules) == []


def test_8_bit_weights_are_refused_at_each_of_3_convolutions_where_products_saturate() -> None:
    model = made(EIGHT)
    found = refusals(model, ONNX_RUNTIME_WITHOUT_VNNI)
    assert [each.split(":")[0] for each in found] == [node.name for node in model.graph.node if node.op_type == "Conv"]
    assert all("7 bits" in each for each in found)
    assert refusals(model, ONNX_RUNTIME) == []


def test_tensorrt_gets_no_uint8_and_no_zero_point_of_128(changed: Change, node_of: Find) -> None:
    model = made(SEVEN)
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    weights = [node for node in pairs if node.op_type == "DequantizeLinear" and "Conv" not in node.input[0]]
    found = refusals(model, TENSORRT)
    assert len(found) == len(pairs) - 3  # the three weights are int8 around 0
    assert all("uint8" in each for each in found)
    assert weights
    signed = made(SYMMETRIC)
    quantize = node_of(signed, "QuantizeLinear")
    for node in (quantize, node_of(signed, "DequantizeLinear")):
        changed(signed, node.input[2], np.int8(3))
    assert refusals(signed, TENSORRT)[0] == (
        f"{quantize.name}: TensorRT takes zero point 0 only, and this is 3; quantize symmetrically."
    )


@pytest.mark.parametrize("rules", EVERY, ids=lambda rules: rules.name)
@pytest.mark.parametrize("value", [0.0, -0.1, np.nan, np.inf, 1e-42])
def test_a_scale_of_0_or_less_or_no_number_is_refused_everywhere(
    rules: Rules, value: float, changed: Change, node_of: Find, weight_of: Find
) -> None:
    scheme = SYMMETRIC if rules is TENSORRT else SEVEN
    model = made(scheme)
    quantize = node_of(model, "QuantizeLinear", 1)
    found = refusals(changed(model, quantize.input[1], np.float32(value)), rules)
    assert found[0].startswith(f"{quantize.name}: 1 of 1 scales are")
    weighted = made(scheme)
    weight = weight_of(weighted)
    scales = numpy_helper.to_array(next(each for each in weighted.graph.initializer if each.name == weight.input[1]))
    scales = scales.copy()
    scales[3:5] = value
    (said,) = refusals(changed(weighted, weight.input[1], scales), rules)
    assert said.startswith(f"{weight.name}: 2 of 8 scales are")


def test_an_activation_scale_of_shape_1_is_refused_where_it_stands(changed: Change, node_of: Find) -> None:
    model = made(SEVEN)
    quantize = node_of(model, "QuantizeLinear")
    value = next(each for each in model.graph.initializer if each.name == quantize.input[1])
    found = refusals(changed(model, value.name, numpy_helper.to_array(value).reshape(1)), ONNX_RUNTIME)
    assert found == [f"{quantize.name}: the scale of an activation has shape (1,); store it as a scalar."]


def test_a_pair_whose_2_nodes_differ_is_refused(changed: Change, node_of: Find) -> None:
    model = made(SEVEN)
    dequantize = node_of(model, "DequantizeLinear")
    (said,) = refusals(changed(model, dequantize.input[1], np.float32(0.5)), ONNX_RUNTIME)
    assert said.startswith(f"{dequantize.name}: it has another scale or zero point than")


def test_1_zero_point_that_2_nodes_share_is_refused_for_every_target(node_of: Find) -> None:
    model = made(SYMMETRIC)
    first, second = node_of(model, "QuantizeLinear"), node_of(model, "QuantizeLinear", 1)
    second.input[2] = first.input[2]
    assert refusals(model, TENSORRT) == [
        f"{second.name}: shares the constant {first.input[2]} with {first.name}; "
        "give every reader a constant of its own."
    ]


def test_asymmetric_weights_and_weights_of_uint8_and_scales_on_axis_1_are_refused(
    changed: Change, node_of: Find, weight_of: Find
) -> None:
    model = made(SEVEN)
    weight = weight_of(model)
    (said,) = refusals(changed(model, weight.input[2], np.array([0, 0, 5, 0, 0, 0, 0, 0], np.int8)), ONNX_RUNTIME)
    assert said.startswith(f"{weight.name}: a weight or bias has zero point 5")
    model = made(SEVEN)
    weight = weight_of(model)
    changed(model, weight.input[0], np.full((8, 3, 3, 3), 128, np.uint8))
    (said,) = refusals(changed(model, weight.input[2], np.full(8, 128, np.uint8)), ONNX_RUNTIME)
    assert said == f"{weight.name}: a weight is stored as uint8; store it as int8 with zero point 0."
    model = made(SEVEN)
    next(each for each in weight_of(model).attribute if each.name == "axis").i = 1
    (said,) = refusals(model, ONNX_RUNTIME)
    assert said.startswith(f"{node_of(model, 'Conv').name}: its weight has scales on axis 1;")


def test_a_relu_behind_which_codes_begin_at_0_and_zero_is_128_does_not_fold() -> None:
    signed = Scheme(weight_bits=7, unsigned_activations=False, signed_zero_point=128, why="canonical S8, lowered")
    assert refusals(made(signed), ONNX_RUNTIME) == []  # our own lowering stores what is never negative from 0 on
    found = refusals(activations_unsigned(made(SYMMETRIC)), ONNX_RUNTIME)
    assert len(found) == 2
    assert all("ends at code 128 where the codes end at 0" in each for each in found)


@pytest.mark.parametrize(("amax", "codes"), [(6.0, None), (3.0, None), (12.0, 128)])
def test_relu6_folds_at_scales_up_to_6_over_255(amax: float, codes: int | None) -> None:
    model = made(SEVEN, network=Small(nn.ReLU6), amax=amax)
    found = refusals(model, ONNX_RUNTIME)
    assert len(found) == (0 if codes is None else 2)
    assert all(f"ends at code {codes} where the codes end at 255" in each and "0.02353" in each for each in found)
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    kinds = {node.op_type for node in optimised(model).graph.node}
    assert ("Clip" in kinds) is (codes is not None)


def test_a_channel_of_zeros_with_bias_one_half_goes_beyond_int32_and_onnx_runtime_answers_wrong(
    node_of: Find, weight_of: Find
) -> None:
    network = Small()
    with torch.no_grad():
        network.first.weight[2] = 0.0
        assert network.first.bias is not None
        network.first.bias[2] = 0.5
    model = made(SEVEN, network=network)
    assert refusals(model, ONNX_RUNTIME) == []  # our own quantizers keep the scale of a dead channel away from 0
    asked = {"input": np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)}
    if is_x86():
        assert apart_from_reference(model, asked) < 1e-5  # sums in float32 in the last layer
    dying = weight_of(model).input[1]
    place = next(each for each in model.graph.initializer if each.name == dying)
    scales = numpy_helper.to_array(place).copy()
    scales[2] = 1e-8 / 63
    place.CopyFrom(numpy_helper.from_array(scales, dying))
    (said,) = refusals(model, ONNX_RUNTIME)
    # s_x = 2/127 and s_w = 1e-8/63: 0.5 / 2.5e-12 = 2.0e11 steps.
    assert said.startswith(f"{node_of(model, 'Conv').name}: the bias of output 2 is 2e+11 steps of s_x·s_w")
    assert refusals(made(SYMMETRIC, network=network), TENSORRT) == []  # there the bias stays float
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    # A thousand times what float sums differ by; should this fail, the runtime was mended.
    assert apart_from_reference(model, asked) > 1e-3


def apart_from_reference(model: onnx.ModelProto, asked: dict[str, np.ndarray]) -> float:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return float(np.abs(session.run(None, asked)[0] - integers_of(model, asked)["output"]).max())


def test_an_int32_bias_is_refused_by_tensorrt_and_by_onnx_runtime_where_its_scale_is_another(
    node_of: Find, weight_of: Find
) -> None:
    for factor, refused in ((1.0, False), (1.01, True)):
        model = made(SYMMETRIC)
        conv, weight = node_of(model, "Conv"), weight_of(model)
        constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        reader = next(node for node in model.graph.node if conv.input[0] in node.output)
        scale = (constants[reader.input[1]] * constants[weight.input[1]] * factor).astype(np.float32)
        stored = {
            "b": np.rint(constants[conv.input[2]] / scale).astype(np.int32),
            "s": scale,
            "z": np.zeros(8, np.int32),
        }
        model.graph.initializer.extend(numpy_helper.from_array(value, f"bias.{name}") for name, value in stored.items())
        names = [f"bias.{name}" for name in stored]
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", names, ["bias"], name="bias pair", axis=0))
        node_of(model, "Conv").input[2] = "bias"
        onnx.checker.check_model(model)
        assert "bias pair: TensorRT takes no int32 bias; store the bias as float32." in refusals(model, TENSORRT)
        said = [each for each in refusals(model, ONNX_RUNTIME) if "int32 bias" in each]
        assert len(said) == int(refused)


def test_a_scale_that_is_computed_and_a_bias_of_nan_are_named(changed: Change, node_of: Find) -> None:
    model = made(SEVEN)
    conv = node_of(model, "Conv")
    bias = np.zeros(8, np.float32)
    bias[4] = np.nan
    (said,) = refusals(changed(model, conv.input[2], bias), ONNX_RUNTIME)
    assert said.startswith(f"{conv.name}: its bias holds nan")
    quantize = node_of(model, "QuantizeLinear")
    model.graph.node.insert(0, helper.make_node("Abs", [quantize.input[1]], ["computed"]))
    quantize.input[1] = "computed"
    assert refusals(model, TENSORRT) == [
        f"{quantize.name}: computed is computed in the graph; store scales and zero points as constants."
    ]


def optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph after ONNX Runtime's rewriting; only its kinds of nodes are read."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "rewritten.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def test_a_float_model_has_0_refusals() -> None:
    model = onnx_of(Small().eval(), input_shape=SHAPE)
    assert {each.data_type for each in model.graph.initializer} == {TensorProto.FLOAT}
    assert [refusals(model, rules) for rules in EVERY] == [[], [], [], []]
