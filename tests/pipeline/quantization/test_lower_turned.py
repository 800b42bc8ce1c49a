"""Products without a bias: their weights are seen as they are multiplied; clips behind them leave them in integers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.quantization.fake_quant import exportable
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.integer_reference import differences, integers_of
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.quantized_graph import quantized_graph
from pipeline.quantization.validator import ONNX_RUNTIME, ONNX_RUNTIME_WITHOUT_VNNI, refusals, rules_from_scheme
from pipeline.quantization.worst_case import layer_alone, saturation, worst_codes
from targets.devices.x86_cpu import EXACT_AT_EIGHT_BITS
from targets.engines.ort import OnnxRuntime
from targets.reach.local import cpu_features, is_x86
from targets.schemes import ARM64
from targets.target import Scheme

Answers = Callable[..., np.ndarray]
SHAPES = [(5, 8), (2, 3, 8), (8,)]


def scheme_of(bits: int, *, paired: bool = False) -> Scheme:
    return Scheme(
        weight_bits=bits, unsigned_activations=True, signed_zero_point=128, why="as asked", sums_in_16_bits=paired
    )


def canonical_of(scheme: Scheme, *between: nn.Module, shape: tuple[int, ...], amax: float = 30.0) -> onnx.ModelProto:
    """Two layers without a bias, of which the first answers in codes, and two that are float."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(8, 16, bias=False), *between, nn.Linear(16, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 2)
    )
    graph, placement = watched(network.eval())
    student = quantized(graph, placement, amax=dict.fromkeys(placement.activations, amax), scheme=scheme)
    return onnx_from_torch(exportable(student), input_shape=shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("bits", "paired"), [(7, False), (8, True), (8, False)])
def test_2_layers_without_a_bias_equal_the_reference_at_their_worst_codes_if_their_neighbours_allow_it(
    bits: int, paired: bool, shape: tuple[int, ...], answered: Answers
) -> None:
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    exact = [feature for feature in EXACT_AT_EIGHT_BITS if feature in cpu_features()]
    free = bits == 8 and not paired
    if free and exact:
        pytest.skip(f"a processor without {exact[0]} is missing: here 8-bit products cannot saturate")
    scheme = scheme_of(bits, paired=paired)
    model = lowered_for(canonical_of(scheme, shape=shape), scheme)
    found = saturation(model)
    assert [each.can_saturate for each in found] == [free, free]
    assert bool(refusals(model, ONNX_RUNTIME_WITHOUT_VNNI)) is free
    for each in found:
        alone, codes = layer_alone(model, each.node), worst_codes(model, each.node)
        inputs = {alone.graph.input[0].name: codes}
        answers = answered(alone, inputs).astype(float)
        expected = integers_of(alone, inputs)[alone.graph.output[0].name].astype(float)
        # Codes are equal; floats, of the second layer, are one product of the same whole number with its scale.
        assert np.allclose(answers, expected, rtol=1e-6, atol=1e-6) is not free, each


@pytest.mark.parametrize("scheme", [scheme_of(8), ARM64], ids=["x86", "ARM64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_canonical_and_the_lowered_graph_show_the_same_2_worst_pairs_and_hold_the_same_codes(
    scheme: Scheme, shape: tuple[int, ...]
) -> None:
    canonical = canonical_of(scheme, shape=shape)
    lowered = lowered_for(canonical, scheme)
    onnx.checker.check_model(lowered, full_check=True)
    assert [node.op_type for node in canonical.graph.node].count("Transpose") == 2
    assert "Transpose" not in [node.op_type for node in lowered.graph.node]
    ours, theirs = saturation(canonical), saturation(lowered)
    assert [(each.node, each.channel, each.worst_pair_sum) for each in ours] == [
        (each.node, each.channel, each.worst_pair_sum) for each in theirs
    ]
    assert len(ours) == 2
    inputs = {"input": (30 * np.random.default_rng(0).normal(size=(1, *shape))).astype(np.float32)}
    apart = differences(canonical, lowered, inputs)
    # The canonical graph's products are float32 sums: the answers, behind a layer norm, differ in their last digits.
    assert [each.tensor for each in apart if each.tensor != "output"] == []
    assert all(each.largest is not None and each.largest < 1e-5 for each in apart)


TURNS: dict[str, tuple[tuple[int, ...], list[tuple[str, dict[str, object], list[int] | None]]]] = {
    "nothing": ((4, 2), []),
    "a transpose": ((2, 4), [("Transpose", {"perm": [1, 0]}, None)]),
    "a transpose without its order": ((2, 4), [("Transpose", {}, None)]),
    "an identity and a transpose": ((2, 4), [("Identity", {}, None), ("Transpose", {}, None)]),
    "a reshape": ((8,), [("Reshape", {}, [4, 2])]),
    "a squeeze and a transpose": ((2, 1, 4), [("Squeeze", {}, [1]), ("Transpose", {}, None)]),
}


def turned_product(stored: np.ndarray, turns: list[tuple[str, dict[str, object], list[int] | None]]) -> onnx.ModelProto:
    """A file of somebody else's: floats → codes of scale 1 → MatMul with stored integers that are turned before."""
    constants = {"one": np.float32(1), "zero": np.uint8(0), "same": np.float32(1), "none": np.uint8(0),
                 "codes": stored, "unit": np.float32(1), "middle": np.int8(0)}  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "one", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "same", "none"], ["x"]),
        helper.make_node("DequantizeLinear", ["codes", "unit", "middle"], ["w0"]),
    ]
    settings: Any
    for place, (kind, settings, shape) in enumerate(turns):
        read = [f"w{place}"]
        if shape is not None:
            constants[f"shape{place}"] = np.array(shape)
            read.append(f"shape{place}")
        nodes.append(helper.make_node(kind, read, [f"w{place + 1}"], **settings))
    nodes.append(helper.make_node("MatMul", ["x", f"w{len(turns)}"], ["output"], name="product"))
    graph = helper.make_graph(
        nodes, "product",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("name", TURNS)
def test_two_neighbours_of_127_are_seen_behind_6_ways_to_turn_a_weight(name: str, answered: Answers) -> None:
    shape, turns = TURNS[name]
    asked = np.array([[3, 0], [1, 127], [2, 127], [5, 127]], np.int8)  # output 1: 0 + 127, and 127 + 127
    model = turned_product((asked if shape[0] in (4, 8) else asked.T).reshape(shape), turns)
    (found,) = saturation(model)
    assert (found.node, found.channel, found.worst_pair_sum, found.can_saturate) == ("product", 1, 255 * 254, True)
    (said,) = refusals(model, ONNX_RUNTIME_WITHOUT_VNNI)
    assert said.startswith("product: two products of output 1 can add up to 64770, beyond 16 bits")
    assert refusals(model, ONNX_RUNTIME) == []
    graph = quantized_graph(model)
    assert np.array_equal(graph.multiplied(graph.nodes[-1]), asked)
    if is_x86():
        answers = answered(model, {"input": np.full((1, 4), 255, np.float32)})
        whole = [255.0 * 11, 255.0 * 381]
        exact = any(feature in cpu_features() for feature in EXACT_AT_EIGHT_BITS)
        assert np.array_equal(answers, [whole]) or (not exact and answers[0, 0] == whole[0])


def test_scales_along_the_4_inputs_of_a_turned_weight_are_refused_and_along_its_2_outputs_taken() -> None:
    for axis, count in ((0, 2), (1, 4)):  # stored with the outputs first
        model = turned_product(np.ones((2, 4), np.int8), [("Transpose", {}, None)])
        for name, value in (("unit", np.ones(count, np.float32)), ("middle", np.zeros(count, np.int8))):
            place = next(each for each in model.graph.initializer if each.name == name)
            place.CopyFrom(numpy_helper.from_array(value, name))
        (made,) = (node for node in model.graph.node if node.output[0] == "w0")
        made.attribute.append(helper.make_attribute("axis", axis))
        said = refusals(model, ONNX_RUNTIME)
        expected = ["product: its weight has scales on axis 1; give it one per output, on axis 1."] if axis else []
        assert said == expected


def test_a_weight_of_a_shape_that_is_computed_is_taken_for_one_of_any_codes() -> None:
    model = turned_product(np.ones(8, np.int8), [("Reshape", {}, [4, 2])])
    model.graph.node.insert(2, helper.make_node("Shape", ["x"], ["computed"]))
    next(node for node in model.graph.node if node.op_type == "Reshape").input[1] = "computed"
    (found,) = saturation(model)
    assert found.can_saturate


CLIPS = {"hard tanh": (nn.Hardtanh, 3.0), "ReLU6 of codes up to 12": (nn.ReLU6, 12.0), "ReLU6": (nn.ReLU6, 6.0),
         "ReLU": (nn.ReLU, 3.0)}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CLIPS)
def test_2_products_without_a_bias_around_each_of_4_clips_are_integer_ones_of_the_same_codes(
    name: str, shape: tuple[int, ...], answered: Answers, tmp_path: Path
) -> None:
    make, amax = CLIPS[name]
    scheme = scheme_of(8, paired=True)
    canonical = canonical_of(scheme, make(), shape=shape, amax=amax)
    lowered = lowered_for(canonical, scheme)
    onnx.checker.check_model(lowered, full_check=True)
    said = refusals(lowered, rules_from_scheme(scheme))
    assert said == []
    inputs = {"input": (amax * np.random.default_rng(0).normal(size=(1, *shape))).astype(np.float32)}
    assert [each for each in differences(canonical, lowered, inputs) if each.tensor != "output"] == []
    # Float32 sums of a product, before and behind; a code on the middle between two may go to the other one.
    assert np.abs(answered(lowered, inputs) - answered(canonical, inputs)).max() < 0.02
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    onnx.save(lowered, tmp_path / "lowered.onnx")
    engine = OnnxRuntime()
    engine.build(tmp_path / "lowered.onnx", tmp_path / "model.engine.onnx", threads=1)
    assert engine.operators(tmp_path / "model.engine.onnx").integer == 2
