"""TensorRT-RTX builds what we export for TensorRT, for GPUs that are not here, and every product we quantized is Int8.

And what it refuses, or takes for something else without a word, our own validator refuses first, by the node's name. A
gate of legality and precision: nothing is timed, and no Jetson is among the compute capabilities.
"""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from pipeline.models.text_encoder import TextEncoder
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.validator import refusals, rules_from_scheme
from targets.engines.onnx_operators import products_quantized
from targets.engines.tensorrt_rtx import CAPABILITIES, MODULE, CompiledAhead, compiled_ahead
from targets.engines.tensorrt_rtx_log import products_in_engine
from targets.errors import EngineRefused
from targets.runner import Operators
from targets.schemes import TENSORRT, TENSORRT_FLOAT16
from targets.target import Scheme

TOOLS = Path(__file__).resolve().parents[2] / "tools"
Change = Callable[[onnx.ModelProto], str]


@pytest.fixture(autouse=True)
def _compiler() -> None:
    pytest.importorskip(MODULE, reason="TensorRT-RTX is missing: pip install 'edge-compress[tensorrt-rtx]'")


class Pictures(nn.Module):
    """A stem, a depthwise convolution, a residual sum, two poolings, a concat of two branches, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.wide, self.one, self.three = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 3, padding=1)
        self.relu, self.most, self.mean = nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.hidden, self.last = nn.Linear(16 * 4, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = self.most(self.relu(x + self.wide(self.relu(self.deep(x)))))
        x = torch.cat([self.relu(self.one(x)), self.relu(self.three(x))], 1)
        return self.last(self.relu(self.hidden(torch.flatten(self.mean(x), 1))))  # type: ignore[no-any-return]


# Integer products by hand: 5 convolutions and the hidden layer; 3 + 1 + 2 linear layers of a block. Float ones: the
# last layer; that, and 2 products of activations.
INTEGER = {"pictures": 6, "encoder": 6}
FLOAT = {"pictures": ["/last/Gemm"], "encoder": ["/MatMul", "/MatMul_1", "/head/Gemm"]}


@cache
def canonical(network: str) -> onnx.ModelProto:
    sys.path.insert(0, str(TOOLS))
    try:
        from tensorrt_rtx_share import canonical_by_calibration
    finally:
        sys.path.remove(str(TOOLS))
    random = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if network == "pictures":
            module, inputs = Pictures(), random.normal(size=(8, 3, 16, 16))
        else:
            module = TextEncoder(words=30, classes=4, length=12, depth=1, width=32, heads=2)
            inputs = random.integers(1, 30, (8, 12))
        return canonical_by_calibration(module.eval(), inputs.astype(np.float32))  # type: ignore[no-any-return]


def lowered(network: str, scheme: Scheme) -> onnx.ModelProto:
    model = lowered_for(canonical(network), scheme)
    assert refusals(model, rules_from_scheme(scheme)) == []
    return model


def built(model: onnx.ModelProto, folder: Path, *capabilities: int) -> tuple[CompiledAhead, Operators]:
    """What became of it, and its products in the engine."""
    path = folder / "lowered.onnx"
    onnx.save(model, path)
    build = compiled_ahead(path, capabilities=capabilities)
    return build, products_in_engine(products_quantized(model), build.layers)


def checked(network: str, model: onnx.ModelProto, build: CompiledAhead, engine: Operators) -> None:
    assert build.refusals == ()
    assert build.plan_bytes > 1000
    ours = {each.name for each in products_quantized(model).rows if each.integer}
    assert len(ours) == INTEGER[network]
    assert {each.name: each.why for each in engine.rows if not each.integer and each.name in ours} == {}
    assert [each.name for each in engine.rows if not each.integer] == FLOAT[network]


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("network", INTEGER)
def test_each_of_6_products_that_we_quantize_is_int8_for_4_compute_capabilities(
    network: str, capability: int, tmp_path: Path
) -> None:
    model = lowered(network, TENSORRT)
    checked(network, model, *built(model, tmp_path, capability))


@pytest.mark.parametrize("network", INTEGER)
def test_so_they_are_in_float16_and_1_plan_holds_all_4_capabilities(network: str, tmp_path: Path) -> None:
    model = lowered(network, TENSORRT_FLOAT16)
    build, engine = built(model, tmp_path, *CAPABILITIES)
    assert build.capabilities == CAPABILITIES
    checked(network, model, build, engine)
    doors = [each for layer in build.layers for each in (*layer.inputs, *layer.outputs)]
    assert {each.datatype for each in doors if each.name in ("input", "output")} == {"Half"}


def test_1_convolution_whose_weight_is_stored_as_floats_is_float_in_the_engine_and_named(tmp_path: Path) -> None:
    model = lowered("pictures", TENSORRT)
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    convolution = next(node for node in model.graph.node if node.name == "/three/Conv")
    weight = next(node for node in model.graph.node if node.output[0] == convolution.input[1])
    codes, scale = constants[weight.input[0]], constants[weight.input[1]]
    values = codes.astype(np.float32) * scale.reshape(-1, 1, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(values, "floats"))
    convolution.input[1] = "floats"
    model.graph.node.remove(weight)
    build, engine = built(model, tmp_path, 86)
    assert build.accepted
    (found,) = [each for each in engine.rows if each.name == "/three/Conv"]
    assert not found.integer
    assert "Float" in found.why
    assert engine.integer == INTEGER["pictures"] - 1


def test_compute_capability_8_7_which_is_jetson_orin_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match=r"7\.5, 8\.0, 8\.6, 8\.9, 12\.0, 12\.1, not for 8\.7"):
        built(lowered("pictures", TENSORRT), tmp_path, 87)


def constant_set(model: onnx.ModelProto, name: str, value: np.ndarray | np.generic) -> None:
    place = next(each for each in model.graph.initializer if each.name == name)
    place.CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def constant_of(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(each for each in model.graph.initializer if each.name == name)).copy()


def pair_in(model: onnx.ModelProto) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """The second quantizer, which is behind the first ReLU, and its dequantizer."""
    quantize = [node for node in model.graph.node if node.op_type == "QuantizeLinear"][1]
    return quantize, next(node for node in model.graph.node if node.input[:1] == quantize.output[:1])


def weight_in(model: onnx.ModelProto) -> onnx.NodeProto:
    """The dequantizer of the first convolution's weight."""
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    return next(node for node in model.graph.node if node.output[0] == convolution.input[1])


def activation_around(zero: np.generic) -> Change:
    def change(model: onnx.ModelProto) -> str:
        for node in pair_in(model):
            constant_set(model, node.input[2], zero)
        return pair_in(model)[0].name

    return change


def activation_scale(value: float) -> Change:
    def change(model: onnx.ModelProto) -> str:
        for node in pair_in(model):
            constant_set(model, node.input[1], np.float32(value))
        return pair_in(model)[0].name

    return change


def weight_scale(value: float) -> Change:
    def change(model: onnx.ModelProto) -> str:
        weight = weight_in(model)
        scales = constant_of(model, weight.input[1])
        scales[3] = value
        constant_set(model, weight.input[1], scales)
        return weight.name

    return change


def weight_around_1(model: onnx.ModelProto) -> str:
    weight = weight_in(model)
    constant_set(model, weight.input[2], np.ones_like(constant_of(model, weight.input[2])))
    return weight.name


def weight_of_uint8(model: onnx.ModelProto) -> str:
    weight = weight_in(model)
    codes, zeros = (constant_of(model, weight.input[place]) for place in (0, 2))
    constant_set(model, weight.input[0], np.abs(codes.astype(np.int16)).astype(np.uint8))
    constant_set(model, weight.input[2], zeros.astype(np.uint8))
    return weight.name


def bias_of_int32(model: onnx.ModelProto) -> str:
    place, convolution = next(each for each in enumerate(model.graph.node) if each[1].op_type == "Conv")
    values = constant_of(model, convolution.input[2])
    stored = {
        "codes": np.round(values / 1e-3).astype(np.int32), "step": np.full(len(values), 1e-3, np.float32),
        "zero": np.zeros(len(values), np.int32),
    }  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
    convolution.input[2] = "real"
    node = helper.make_node("DequantizeLinear", list(stored), ["real"], name="/stem/bias/DequantizeLinear", axis=0)
    model.graph.node.insert(place, node)
    return node.name


# what is changed, what we say, what the compiler says: measured with TensorRT-RTX 1.7.1.116
NOT_ZERO, NOT_POSITIVE = "Non-zero zero point is not supported", "Scale coefficients must all be positive"
REJECTED: dict[str, tuple[Change, str, str]] = {
    "an activation around 3": (activation_around(np.int8(3)), "zero point 0 only, and this is 3", NOT_ZERO),
    "an activation of uint8 around 128": (activation_around(np.uint8(128)), "takes uint8 codes for int8", NOT_ZERO),
    "a weight around 1": (weight_around_1, "zero point 1", NOT_ZERO),
    "a weight of uint8": (weight_of_uint8, "a weight is stored as uint8", "unsupported input type of UINT8"),
    "a bias of int32": (bias_of_int32, "no int32 bias", "input has type Int32"),
    "an activation's scale of 0": (activation_scale(0.0), "1 of 1 scales are 0", NOT_POSITIVE),
    "an activation's scale below 0": (activation_scale(-0.5), "1 of 1 scales are -0.5", NOT_POSITIVE),
    "a weight's scale of 0": (weight_scale(0.0), "1 of 16 scales are 0", NOT_POSITIVE),
    "a weight's scale below 0": (weight_scale(-0.5), "1 of 16 scales are -0.5", NOT_POSITIVE),
}


@pytest.mark.parametrize("form", REJECTED)
def test_9_forms_are_refused_by_our_validator_first_and_by_the_compiler_at_the_same_node(
    form: str, tmp_path: Path
) -> None:
    change, ours, theirs = REJECTED[form]
    model = lowered("pictures", TENSORRT)
    name = change(model)
    onnx.checker.check_model(model, full_check=True)  # it is ONNX; what refuses it is a target's rule
    said = refusals(model, rules_from_scheme(TENSORRT))
    assert said[0].startswith(f"{name}: ")
    assert ours in said[0]
    build, _ = built(model, tmp_path, 86)
    assert not build.accepted
    assert build.refusals[0].node == name
    assert theirs in build.refusals[0].why
    assert (build.layers, build.plan_bytes) == ((), 0)


@pytest.mark.parametrize("written", [True, False])
def test_uint8_around_0_which_the_compiler_takes_for_int8_is_refused_by_our_validator(
    written: bool, tmp_path: Path
) -> None:
    model = lowered("pictures", TENSORRT)
    activation_around(np.uint8(0))(model)
    quantize, dequantize = pair_in(model)
    if not written:  # without a zero point the standard says uint8 around 0
        unread = [node.input.pop() for node in (quantize, dequantize)]
        kept = [each for each in model.graph.initializer if each.name not in unread]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    said = refusals(model, rules_from_scheme(TENSORRT))
    assert [each.split(":")[0] for each in said] == [quantize.name, dequantize.name]
    assert all("takes uint8 codes for int8 ones" in each for each in said)
    build, engine = built(model, tmp_path, 86)
    assert build.accepted  # codes of 128 and more will be 127
    assert engine.integer == INTEGER["pictures"]
    # A zero point that is written is warned of; one that is not is taken without a word.
    assert any("Defaulting to INT8 instead" in each for each in build.warnings) is written
