"""Half precision around the integers: the same integers, floats rounded to 11 digits, and no Cast."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.quantization.integer_reference import integers_of
from pipeline.quantization.lower_float16 import floats_halved
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.quantized_graph import quantized_graph
from targets.schemes import TENSORRT, TENSORRT_FLOAT16

MakeGraph = Callable[..., onnx.ModelProto]
MakeInputs = Callable[..., np.ndarray]


def test_every_float_is_half_precision_and_no_cast_is_left(network: str, canonical_of: MakeGraph) -> None:
    halved = lowered_for(canonical_of(network, TENSORRT_FLOAT16), TENSORRT_FLOAT16)
    onnx.checker.check_model(halved, full_check=True)
    kinds = {each.data_type for each in halved.graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    assert TensorProto.FLOAT not in kinds
    doors = (*halved.graph.input, *halved.graph.output, *halved.graph.value_info)
    assert TensorProto.FLOAT not in {each.type.tensor_type.elem_type for each in doors}
    assert "Cast" not in {node.op_type for node in halved.graph.node}
    assert [each.version for each in halved.opset_import] == [19]


def test_each_integer_weight_and_each_name_stays_as_it_is(network: str, canonical_of: MakeGraph) -> None:
    wide = lowered_for(canonical_of(network, TENSORRT), TENSORRT)
    halved = floats_halved(wide)
    assert [(node.name, node.op_type) for node in halved.graph.node] == [
        (node.name, node.op_type) for node in wide.graph.node
    ]
    ours, theirs = quantized_graph(wide).constants, quantized_graph(halved).constants
    assert ours.keys() == theirs.keys()
    integers = [name for name, value in ours.items() if value.dtype == np.int8 and value.size > 1]
    assert len(integers) >= 10  # weights and their zero points
    assert all(np.array_equal(ours[name], theirs[name]) for name in integers)
    for name, value in ours.items():
        if value.dtype == np.float32:
            # Half precision has 11 binary digits: half a unit in the last place is 2⁻¹¹, below 2⁻¹⁴ it is 2⁻²⁵.
            np.testing.assert_allclose(theirs[name].astype(np.float64), value, rtol=2**-11, atol=2**-25)


@pytest.mark.parametrize("size", [0.0, 1.0, 100.0])
def test_given_the_same_codes_each_integer_step_is_that_of_the_float32_graph_with_its_floats_rounded_to_11_digits(
    size: float, network: str, canonical_of: MakeGraph, inputs_of: MakeInputs
) -> None:
    wide = lowered_for(canonical_of(network, TENSORRT), TENSORRT)
    halved, rounded = floats_halved(wide), onnx.ModelProto()
    rounded.CopyFrom(wide)
    for each in rounded.graph.initializer:
        if each.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(each).astype(np.float16).astype(np.float32)
            each.CopyFrom(numpy_helper.from_array(value, each.name))
    inputs = {"input": inputs_of(size).astype(np.float16)}
    ours, graph = integers_of(rounded, inputs), quantized_graph(halved)
    codes = [node.output[0] for node in graph.nodes if node.op_type == "QuantizeLinear"]
    joined = {name for node in graph.nodes if node.op_type == "Concat" for name in node.output}
    assert len(graph.steps()) >= 7
    for name in codes:
        theirs = integers_of(halved, {**inputs, **{each: ours[each] for each in codes if each != name}})
        apart = np.abs(theirs[name].astype(int) - ours[name].astype(int)).max()
        # A concat has no integer kernel here: it passes through half precision, and a tie may fall to the other code.
        assert apart <= int(graph.maker[name].input[0] in joined), name
        assert theirs["output"].dtype == np.float16


@pytest.mark.parametrize("run", ["reference", "ONNX Runtime"])
def test_the_answers_are_those_of_the_float32_graph_within_2_percent(
    run: str, network: str, canonical_of: MakeGraph, inputs_of: MakeInputs, answered: Callable[..., np.ndarray]
) -> None:
    def answers(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
        if run == "reference":
            return integers_of(model, {"input": inputs})["output"]
        return answered(model, {"input": inputs}, as_written=True)

    wide = lowered_for(canonical_of(network, TENSORRT), TENSORRT)
    halved = floats_halved(wide)
    apart, size = [], []
    for seed in range(4):
        inputs = inputs_of(1.0, seed=seed)
        exact = answers(wide, inputs)
        apart.append(answers(halved, inputs.astype(np.float16)).astype(np.float64) - exact)
        size.append(exact)
    # Scales are off by up to 2⁻¹¹ = 0.05 % each, which moves a code in a hundred to its neighbour; one step is 0.8 % of
    # a tensor's range, and ten layers add up.
    assert np.sqrt(np.mean(np.square(apart)) / np.mean(np.square(size))) < 0.02


def test_a_bound_beyond_65504_becomes_65504_and_a_scale_of_a_channel_of_zeros_2_to_the_minus_14() -> None:
    weight = np.array([[3, 0], [-2, 0], [1, 0]], np.int8)
    constants = {
        "low": np.float32(0), "high": np.float32(1e9), "s": np.float32(0.5), "z": np.int8(0), "w": weight,
        "sw": np.array([0.25, 1e-9], np.float32), "zw": np.zeros(2, np.int8), "factors": np.ones(2, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Clip", ["input", "low", "high"], ["clipped"], name="clip"),
        helper.make_node("Resize", ["clipped", "", "factors"], ["sized"], name="resize"),
        helper.make_node("QuantizeLinear", ["sized", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["x"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["dw"], axis=1),
        helper.make_node("MatMul", ["x", "dw"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    halved = floats_halved(model)
    onnx.checker.check_model(halved, full_check=True)
    found = quantized_graph(halved).constants
    assert found["high"] == np.float16(65504)
    assert found["factors"].dtype == np.float32  # the standard takes nothing else there
    assert list(found["sw"]) == [np.float16(0.25), np.float16(2**-14)]
    inputs = np.array([[1.0, 40.0, -3.0]], np.float32)
    ours = integers_of(model, {"input": inputs})["output"]
    theirs = integers_of(halved, {"input": inputs.astype(np.float16)})["output"]
    assert np.array_equal(theirs, ours)  # 0.125 · (2·3 − 80·2) = −19.25: exact in half precision
    assert float(ours[0, 0]) == -19.25


def test_a_channel_whose_scale_is_2_to_the_minus_20_gets_an_eighth_of_its_codes_at_2_to_the_minus_17() -> None:
    stored = np.array([[127, -100], [127, -4], [-128, 3]], np.int8)  # (outputs, inputs)
    scales = np.array([2**-14, 2**-20, 2**-20], np.float32)
    constants = {"w": stored, "s": scales, "z": np.zeros(3, np.int8)}
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["dw"], axis=0),
            helper.make_node("Gemm", ["input", "dw"], ["output"], transB=1),
        ],
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = quantized_graph(floats_halved(model)).constants
    assert found["w"].tolist() == [[127, -100], [16, 0], [-16, 0]]  # 127 / 8 = 15.9, −4 / 8 = −0.5: to even
    assert found["s"].tolist() == [2**-14, 2**-17, 2**-17]
    moved = found["w"] * found["s"].astype(np.float64)[:, None] - stored * scales.astype(np.float64)[:, None]
    assert np.abs(moved).max() <= 2**-18
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(scales / 2, "s"))  # now the largest is 2⁻¹⁵
    assert np.array_equal(quantized_graph(floats_halved(model)).constants["w"], stored)
