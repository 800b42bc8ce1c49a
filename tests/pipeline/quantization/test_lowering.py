"""One lowering per target: each tensor of the lowered graph is the canonical one's, on random and on worst-case inputs.

VNNI, AMX and ARM64 are not run here: what is proved is the integer arithmetic, which adds in 32 bits there.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pipeline.quantization.integer_reference import differences, integers_of
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.quantized_graph import name_of, quantized_graph
from pipeline.quantization.validator import refusals, rules_from_scheme
from pipeline.quantization.worst_case import layer_alone, saturation, worst_codes
from targets.devices.x86_cpu import scheme_from_features
from targets.engines.ort import OnnxRuntime
from targets.reach.local import is_x86
from targets.schemes import ARM64, TENSORRT, TENSORRT_FLOAT16
from targets.target import Scheme

MakeGraph = Callable[..., onnx.ModelProto]
MakeInputs = Callable[..., np.ndarray]
SYMMETRIC_SEVEN = Scheme(weight_bits=7, unsigned_activations=False, signed_zero_point=128, why="TensorRT's, on AVX2")
SYMMETRIC_EIGHT = Scheme(weight_bits=8, unsigned_activations=False, signed_zero_point=128, why="TensorRT's, on VNNI")
SYMMETRIC = Scheme(weight_bits=8, unsigned_activations=False, signed_zero_point=0, why="TensorRT's, without fusing")
EXACT = {
    "x86 without VNNI": scheme_from_features(()),
    "x86 with VNNI": scheme_from_features(("avx512_vnni",)),
    "ARM64": ARM64,
    "symmetric student, AVX2": SYMMETRIC_SEVEN,
    "symmetric student, VNNI": SYMMETRIC_EIGHT,
    "symmetric student as it is": SYMMETRIC,
}


@pytest.mark.parametrize("form", EXACT)
def test_each_tensor_is_the_canonical_one_on_inputs_of_4_sizes(
    form: str, network: str, canonical_of: MakeGraph, inputs_of: MakeInputs
) -> None:
    canonical = canonical_of(network, EXACT[form])
    lowered = lowered_for(canonical, EXACT[form])
    onnx.checker.check_model(lowered, full_check=True)
    for size in (0.0, 0.1, 1.0, 100.0):  # zeros, small, as calibrated, and saturated on both sides
        assert differences(canonical, lowered, {"input": inputs_of(size)}) == ()
    assert sum(node.op_type == "QuantizeLinear" for node in canonical.graph.node) > 9


@pytest.mark.parametrize("form", EXACT)
def test_each_product_is_the_canonical_one_at_the_codes_of_its_widest_sums(
    form: str, network: str, canonical_of: MakeGraph
) -> None:
    canonical = canonical_of(network, EXACT[form])
    lowered = lowered_for(canonical, EXACT[form])
    layers = [each.node for each in saturation(canonical)]
    assert len(layers) >= 6
    for layer in layers:
        ours, theirs = layer_alone(canonical, layer), layer_alone(lowered, layer)
        (door,) = (each.name for each in ours.graph.input)
        codes = worst_codes(canonical, layer)
        one, other = zero_of(canonical, door), zero_of(lowered, door)
        same = integers_of(theirs, {door: (codes.astype(int) - int(one) + int(other)).astype(other.dtype)})
        answer = ours.graph.output[0].name
        expected = integers_of(ours, {door: codes})[answer].astype(int) - int(zero_of(canonical, answer))
        # The cut of never negative codes at 127 stands behind the layer's quantizer.
        found = same[theirs.graph.output[0].name].astype(int) - int(zero_of(lowered, answer))
        if theirs.graph.output[0].name != answer:
            found = np.minimum(found, 127)
        assert np.array_equal(found, expected), layer


def zero_of(model: onnx.ModelProto, codes: str) -> np.ndarray:
    graph = quantized_graph(model)
    return graph.pair(next(each for each in graph.readers[codes] if each.op_type == "DequantizeLinear")).zero


@pytest.mark.parametrize("form", [*EXACT, "TensorRT", "TensorRT, float16"])
def test_the_validator_refuses_nothing_that_a_lowering_makes_for_its_own_target(
    form: str, network: str, canonical_of: MakeGraph
) -> None:
    scheme = {**EXACT, "TensorRT": TENSORRT, "TensorRT, float16": TENSORRT_FLOAT16}[form]
    assert refusals(lowered_for(canonical_of(network, scheme), scheme), rules_from_scheme(scheme)) == []


@pytest.mark.parametrize("form", ["x86 without VNNI", "symmetric student, AVX2"])
def test_the_engine_on_x86_answers_as_the_reference_does_with_every_layer_in_integers(
    form: str, network: str, canonical_of: MakeGraph, inputs_of: MakeInputs, tmp_path: Path
) -> None:
    lowered = lowered_for(canonical_of(network, EXACT[form]), EXACT[form])
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    first = saturation(lowered)[0]
    graph = quantized_graph(lowered)
    door = graph.pair(graph.nodes[0])
    widest = (worst_codes(lowered, first.node).astype(np.float32) - np.float32(door.zero)) * np.float32(door.scale)
    onnx.save(lowered, tmp_path / "lowered.onnx")
    engine = OnnxRuntime()
    engine.build(tmp_path / "lowered.onnx", tmp_path / "model.engine.onnx", threads=1)
    runner = engine.open(tmp_path / "model.engine.onnx", threads=1)
    for inputs in (inputs_of(1.0), inputs_of(100.0), widest, np.sign(inputs_of(1.0)) * np.float32(1e30)):
        expected = integers_of(lowered, {"input": inputs}, as_avx2=True)["output"]
        # The last layer is float: tens of products summed in another order, 1e-7 of the answer each.
        np.testing.assert_allclose(runner(inputs), expected, rtol=1e-5, atol=1e-5)
    runner.close()
    products = [step for step in graph.steps() if step.node.op_type in ("Conv", "Gemm")]
    assert engine.operators(tmp_path / "model.engine.onnx").integer == len(products) >= 6


def test_arm64_stores_activations_as_int8_around_0_or_from_minus_128(network: str, canonical_of: MakeGraph) -> None:
    graph = quantized_graph(lowered_for(canonical_of(network, ARM64), ARM64))
    zeros = [graph.pair(node).zero for node in graph.nodes if node.op_type == "QuantizeLinear"]
    assert {(zero.dtype.name, int(zero)) for zero in zeros} == {("int8", 0), ("int8", -128)}


def test_a_symmetric_student_on_x86_holds_codes_up_to_127_where_nothing_is_negative(canonical_of: MakeGraph) -> None:
    lowered = lowered_for(canonical_of("mixed", SYMMETRIC_EIGHT), SYMMETRIC_EIGHT)
    graph = quantized_graph(lowered)
    cuts = [node for node in graph.nodes if node.op_type == "Clip"]
    assert len(cuts) == 4  # of the three ReLUs that a quantizer follows, and of the ReLU6, which has become one
    assert {int(graph.constants[node.input[2]]) for node in cuts} == {127}
    assert [node.op_type for node in graph.nodes if name_of(node) == "/relu6/Clip"] == ["Relu"]
    pooled = next(node for node in graph.nodes if node.op_type == "MaxPool")
    again = graph.readers[pooled.output[0]][0]  # moved values repeat their quantizer, and need no second cut
    assert [each.op_type for each in graph.readers[again.output[0]]] == ["DequantizeLinear"]


@pytest.mark.parametrize("scheme", [ARM64, TENSORRT, SYMMETRIC_SEVEN], ids=["ARM64", "TensorRT", "x86"])
def test_a_lowering_leaves_the_model_given_alone_and_every_weight_as_it_is(
    scheme: Scheme, network: str, canonical_of: MakeGraph
) -> None:
    canonical = canonical_of(network, scheme)
    before = canonical.SerializeToString()
    lowered = lowered_for(canonical, scheme)
    assert canonical.SerializeToString() == before
    weights = {each.name: each.raw_data for each in canonical.graph.initializer if len(each.dims) > 1}
    kept = {each.name: each for each in lowered.graph.initializer if each.name in weights}
    assert {name: each.raw_data for name, each in kept.items()} == weights
    assert sum(each.data_type == TensorProto.INT8 for each in kept.values()) >= 5
