"""Layers in float kernels on the same grid: each gives the codes of the integers, and the runtime leaves it be."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pipeline.graph.first_difference import codes_of, points_of
from pipeline.quantization.float_kernels import quantized_products, with_float_kernels
from pipeline.quantization.integer_operators import centred
from pipeline.quantization.integer_reference import integers_of
from pipeline.quantization.kernel_choice import layers_of_operators
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.quantized_graph import quantized_graph
from pipeline.quantization.validator import refusals, rules_from_scheme
from targets.devices.x86_cpu import scheme_from_features
from targets.engines.ort import OnnxRuntime
from targets.reach.local import is_x86
from targets.runner import OperatorRow

MakeGraph = Callable[..., onnx.ModelProto]
MakeInputs = Callable[..., np.ndarray]
SEVEN = scheme_from_features(())  # products of 7 bits: they saturate on no processor

# Which of the products go to float kernels.
SOME: dict[str, slice] = {"all": slice(None), "every second": slice(0, None, 2), "the first": slice(0, 1)}


@pytest.mark.parametrize("which", SOME)
def test_each_layer_gives_the_codes_that_integers_give_but_for_1_in_1000_on_an_edge(
    which: str, network: str, canonical_of: MakeGraph, inputs_of: MakeInputs
) -> None:
    """The networks have depthwise convolutions, residual sums, concats, ReLU6 and linear layers."""
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    integer = lowered_for(canonical_of(network, SEVEN), SEVEN)
    mixed = with_float_kernels(integer, quantized_products(integer)[SOME[which]])
    onnx.checker.check_model(mixed, full_check=True)
    graph = quantized_graph(integer)
    written = {name for node in mixed.graph.node for name in node.output}
    points = {node.output[0]: graph.pair(node) for node in points_of(integer) if node.output[0] in written}
    unequal = elements = 0
    for seed, size in enumerate((0.1, 1.0, 100.0)):
        inputs = inputs_of(size, seed=seed)
        codes, answers = codes_of(mixed, list(points), inputs)
        expected = integers_of(integer, {"input": inputs}, instead=codes, as_avx2=True)
        for name, pair in points.items():
            apart = np.abs(centred(codes[name], pair) - centred(expected[name], pair))
            assert apart.max() <= 1  # an edge lies between two neighbours
            unequal, elements = unequal + int((apart > 0).sum()), elements + apart.size
        # Float32 sums in another order.
        told = expected[integer.graph.output[0].name]
        np.testing.assert_allclose(answers, told, rtol=1e-4, atol=1e-5 * np.abs(told).max())
    assert elements > 1000
    assert unequal <= elements / 1000


def operators(model: onnx.ModelProto, folder: Path) -> tuple[OperatorRow, ...]:
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    source, engine = folder / "model.onnx", folder / "model.engine.onnx"
    onnx.save(model, source)
    OnnxRuntime().build(source, engine, threads=1)
    return OnnxRuntime().operators(engine).rows


def test_the_2_layers_that_were_named_are_float_in_the_engine_and_no_other(
    network: str, canonical_of: MakeGraph, tmp_path: Path
) -> None:
    integer = lowered_for(canonical_of(network, SEVEN), SEVEN)
    chosen = quantized_products(integer)[1:3]
    mixed = with_float_kernels(integer, chosen)
    layer_of = layers_of_operators(mixed)
    rows = operators(mixed, tmp_path)
    found = {layer_of(row.name): row.integer for row in rows}  # and what is no quantized layer
    assert {name: found[name] for name in quantized_products(integer)} == {
        name: name not in chosen for name in quantized_products(integer)
    }


def test_without_its_shield_onnx_runtime_would_quantize_1_layer_again(canonical_of: MakeGraph, tmp_path: Path) -> None:
    """Should a newer runtime leave it in float, the shield can go."""
    integer = lowered_for(canonical_of("mixed", SEVEN), SEVEN)
    mixed = with_float_kernels(integer, quantized_products(integer)[1:2])
    floats = sum(not row.integer for row in operators(integer, tmp_path))  # the answers
    assert sum(not row.integer for row in operators(mixed, tmp_path)) == floats + 1
    (shield,) = (node for node in mixed.graph.node if node.op_type == "LeakyRelu")
    for node in mixed.graph.node:
        node.input[:] = [shield.input[0] if name == shield.output[0] else name for name in node.input]
    mixed.graph.node.remove(shield)
    assert sum(not row.integer for row in operators(mixed, tmp_path)) == floats


def test_a_max_pool_behind_a_float_kernel_comes_before_the_1_quantizer_that_is_left(
    canonical_of: MakeGraph, tmp_path: Path
) -> None:
    integer = lowered_for(canonical_of("mixed", SEVEN), SEVEN)
    mixed = with_float_kernels(integer, quantized_products(integer)[:1])
    counts = [sum(node.op_type == "QuantizeLinear" for node in each.graph.node) for each in (integer, mixed)]
    assert counts[0] - counts[1] == 1
    graph = quantized_graph(mixed)
    pool = next(node for node in graph.nodes if node.op_type == "MaxPool")
    (shield,) = graph.readers[pool.output[0]]
    assert [graph.maker[pool.input[0]].op_type, shield.op_type] == ["Relu", "LeakyRelu"]
    assert [node.op_type for node in graph.readers[shield.output[0]]] == ["QuantizeLinear"]
    assert sum(not row.integer for row in operators(mixed, tmp_path)) == 2  # and the answers


def test_stored_integers_of_every_layer_become_the_floats_they_stand_for(canonical_of: MakeGraph) -> None:
    integer = lowered_for(canonical_of("mixed", SEVEN), SEVEN)
    mixed = with_float_kernels(integer, quantized_products(integer))
    kinds = {each.name: each.data_type for each in mixed.graph.initializer}
    graph = quantized_graph(mixed)
    assert not [node for node in graph.nodes if graph.weight(node) is not None]
    assert onnx.TensorProto.INT32 not in kinds.values()  # the bias of the last linear layer was stored so
    before = quantized_graph(integer)
    first = next(node for node in before.nodes if before.weight(node) is not None)
    stored = before.weight(first)
    assert stored is not None
    pair = before.pair(stored)
    weights = {each.name: numpy_helper.to_array(each) for each in mixed.graph.initializer}
    expected = before.constants[stored.input[0]] * pair.scale.reshape(-1, 1, 1, 1)  # zero points are 0
    np.testing.assert_array_equal(weights[f"{first.output[0]}.weight"], expected)


def test_the_validator_refuses_0_of_3_networks_with_float_kernels(network: str, canonical_of: MakeGraph) -> None:
    integer = lowered_for(canonical_of(network, SEVEN), SEVEN)
    for which in SOME.values():
        mixed = with_float_kernels(integer, quantized_products(integer)[which])
        assert refusals(mixed, rules_from_scheme(SEVEN)) == []


def test_a_layer_that_1_model_does_not_have_is_named(canonical_of: MakeGraph) -> None:
    integer = lowered_for(canonical_of("mixed", SEVEN), SEVEN)
    with pytest.raises(ValueError, match="no quantized product gives nothing"):
        with_float_kernels(integer, ["nothing"])
