"""Operations and bytes of small graphs, by hand: what is folded together, and what goes through memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pipeline.graph.count import parameters_and_macs
from pipeline.graph.layer_costs import layer_costs
from targets.estimate import Arithmetic, LayerCost

SCALE = {"s": np.float32(0.1), "z": np.int8(0)}


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[Any] | np.generic],
    *,
    taken: Sequence[int | str],
    given: Sequence[int],
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes), "by hand",
        [helper.make_tensor_value_info("x", kind, list(taken))],
        [helper.make_tensor_value_info("y", kind, list(given))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def costs(model: onnx.ModelProto) -> tuple[LayerCost, ...]:
    found = layer_costs(model)
    assert found is not None
    return found


def conv(source: str, weight: str, result: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weight], [result], result, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def quantized(source: str, result: str) -> list[onnx.NodeProto]:
    """`result`_q is in memory, `result` is what is read."""
    return [
        helper.make_node("QuantizeLinear", [source, "s", "z"], [f"{result}_q"], f"{result}_q"),
        helper.make_node("DequantizeLinear", [f"{result}_q", "s", "z"], [result], result),
    ]


def test_a_float_convolution_with_its_function_reads_and_writes_4_bytes_per_element() -> None:
    nodes = [conv("x", "w", "c"), helper.make_node("Relu", ["c"], ["y"], "relu")]
    model = model_of(nodes, {"w": np.zeros((8, 3, 3, 3), np.float32)}, taken=[1, 3, 10, 10], given=[1, 8, 10, 10])
    macs = 8 * 100 * 27
    # One layer; the 800 numbers between convolution and function stay inside, the function is 800 operations more.
    assert costs(model) == (LayerCost("c", 2 * macs + 800, 4 * (300 + 216 + 800), Arithmetic.FP32),)
    assert parameters_and_macs(model) == (216, macs)


def test_half_precision_moves_2_bytes_per_element() -> None:
    nodes = [conv("x", "w", "y")]
    weights = {"w": np.zeros((8, 3, 3, 3), np.float16)}
    model = model_of(nodes, weights, taken=[1, 3, 10, 10], given=[1, 8, 10, 10], kind=TensorProto.FLOAT16)
    assert costs(model) == (LayerCost("y", 2 * 8 * 100 * 27, 2 * (300 + 216 + 800), Arithmetic.FP16),)


def test_a_quantized_convolution_moves_1_byte_per_element_and_4_of_each_bias() -> None:
    nodes = [
        *quantized("x", "a"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["k"], "k"),
        helper.make_node("Conv", ["a", "k", "b"], ["c"], "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "r"),
        *quantized("r", "d"),
        helper.make_node("GlobalAveragePool", ["d"], ["y"], "mean"),
    ]
    constants = {**SCALE, "w": np.zeros((8, 3, 3, 3), np.int8), "b": np.zeros(8, np.float32)}
    first, second, third = costs(model_of(nodes, constants, taken=[1, 3, 10, 10], given=[1, 8, 1, 1]))
    assert first == LayerCost("a_q", 300, 5 * 300, Arithmetic.FP32)  # reads floats, writes bytes
    # 800 operations of the function and 800 of the quantizer behind it.
    assert second == LayerCost("c", 2 * 8 * 100 * 27 + 1600, 300 + 216 + 32 + 800, Arithmetic.INT8)
    assert third == LayerCost("mean", 800, 800 + 8 * 4, Arithmetic.INT8)


def test_an_addition_joins_the_later_convolution_and_reads_the_other_branch_once() -> None:
    nodes = [
        *quantized("x", "a"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["k"], "k"),
        conv("a", "k", "c"),
        helper.make_node("Relu", ["c"], ["r"], "r"),
        *quantized("r", "d"),
        conv("d", "k", "e"),
        helper.make_node("Add", ["e", "a"], ["f"], "f"),
        helper.make_node("Relu", ["f"], ["y"], "y"),
    ]
    constants = {**SCALE, "w": np.zeros((4, 4, 3, 3), np.int8)}
    layers = costs(model_of(nodes, constants, taken=[1, 4, 5, 5], given=[1, 4, 5, 5]))
    assert [layer.name for layer in layers] == ["a_q", "c", "e"]
    macs = 4 * 25 * 36
    assert layers[1] == LayerCost("c", 2 * macs + 200, 100 + 144 + 100, Arithmetic.INT8)
    # Reads 100 bytes of `d`, 144 of weights and 100 of the skip, and writes 100 floats.
    assert layers[2] == LayerCost("e", 2 * macs + 200, 100 + 144 + 100 + 400, Arithmetic.INT8)


def test_a_convolution_whose_weight_alone_is_in_1_byte_multiplies_floats() -> None:
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["k"], "k"), conv("x", "k", "y")]
    constants = {**SCALE, "w": np.zeros((4, 4, 3, 3), np.int8)}
    (layer,) = costs(model_of(nodes, constants, taken=[1, 4, 5, 5], given=[1, 4, 5, 5]))
    assert layer == LayerCost("y", 2 * 4 * 25 * 36, 400 + 144 + 400, Arithmetic.FP32)


def test_weights_behind_a_quantizer_of_their_own_have_1_byte_and_are_no_layer() -> None:
    nodes = [*quantized("x", "a"), *quantized("w", "k"), conv("a", "k", "y")]
    constants = {**SCALE, "w": np.zeros((4, 4, 3, 3), np.float32)}
    layers = costs(model_of(nodes, constants, taken=[1, 4, 5, 5], given=[1, 4, 5, 5]))
    assert [layer.name for layer in layers] == ["a_q", "y"]
    assert layers[1] == LayerCost("y", 2 * 4 * 25 * 36, 100 + 144 + 400, Arithmetic.INT8)


def test_a_gate_that_reads_its_own_input_twice_is_folded_into_1_layer() -> None:
    nodes = [
        conv("x", "w", "c"),
        helper.make_node("Sigmoid", ["c"], ["g"], "g"),
        helper.make_node("Mul", ["c", "g"], ["y"], "y"),
    ]
    model = model_of(nodes, {"w": np.zeros((4, 4, 3, 3), np.float32)}, taken=[1, 4, 5, 5], given=[1, 4, 5, 5])
    assert costs(model) == (LayerCost("c", 2 * 4 * 25 * 36 + 200, 4 * (100 + 144 + 100), Arithmetic.FP32),)


def test_pools_count_their_window_reshapes_nothing_and_a_product_its_inner_length() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], "f"),
        helper.make_node("Gemm", ["f", "w"], ["y"], "y"),
    ]
    model = model_of(nodes, {"w": np.zeros((16, 10), np.float32)}, taken=[1, 4, 4, 4], given=[1, 10])
    assert costs(model) == (
        LayerCost("p", 4 * 16, 4 * (64 + 16), Arithmetic.FP32),
        LayerCost("y", 2 * 160, 4 * (16 + 160 + 10), Arithmetic.FP32),
    )


def test_a_row_taken_from_a_table_of_1000_reads_as_much_as_it_gives() -> None:
    nodes = [helper.make_node("Gather", ["w", "x"], ["y"], "y")]
    graph = helper.make_graph(
        nodes, "by hand",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 32])],
        [numpy_helper.from_array(np.zeros((1000, 32), np.float32), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert costs(model) == (LayerCost("y", 192, 4 * 192 + 8 * 6 + 4 * 192, Arithmetic.FP32),)


def test_of_a_graph_with_1_unknown_axis_nothing_is_said() -> None:
    nodes = [conv("x", "w", "y")]
    model = model_of(nodes, {"w": np.zeros((4, 4, 3, 3), np.float32)}, taken=[1, 4, "h", 5], given=[1, 4, 5, 5])
    assert layer_costs(model) is None
