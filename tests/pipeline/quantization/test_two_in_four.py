"""2:4 structure, counted by hand."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.quantization.two_in_four import Structure, is_two_in_four, structure_of


def pruned(weight: np.ndarray, *, axis: int) -> np.ndarray:
    """With the 2 smallest of every 4 along an axis set to zero."""
    last = np.moveaxis(weight.copy(), axis, -1)
    fours = last.reshape(-1, 4).copy()
    for row in fours:
        row[np.argsort(np.abs(row))[:2]] = 0
    return np.moveaxis(fours.reshape(last.shape), -1, axis)


def model_of(*weights: tuple[str, np.ndarray, dict[str, Any]], quantized: bool) -> onnx.ModelProto:
    nodes, constants = [], []
    for place, (kind, weight, attributes) in enumerate(weights):
        name = f"w{place}"
        constants.append(numpy_helper.from_array(weight.astype(np.int8 if quantized else np.float32), name))
        if quantized:
            constants.append(numpy_helper.from_array(np.float32(0.1), f"s{place}"))
            nodes.append(helper.make_node("DequantizeLinear", [name, f"s{place}"], [f"d{place}"]))
            name = f"d{place}"
        nodes.append(helper.make_node(kind, [f"x{place}", name], [f"y{place}"], **attributes))
    doors = [helper.make_tensor_value_info(f"x{place}", TensorProto.FLOAT, None) for place in range(len(weights))]
    exits = [helper.make_tensor_value_info(f"y{place}", TensorProto.FLOAT, None) for place in range(len(weights))]
    return helper.make_model(helper.make_graph(nodes, "m", doors, exits, constants))


def test_2_zeros_in_each_4_are_wanted_and_1_four_with_3_numbers_is_too_many() -> None:
    assert is_two_in_four(np.array([[1, 0, 0, 2, 0, 0, 0, 0]]))
    assert not is_two_in_four(np.array([[1, 0, 0, 2, 0, 3, 4, 5]]))
    # two zeros in each half of eight, and yet not in each four
    assert not is_two_in_four(np.array([[1, 2, 3, 0, 0, 0, 0, 4]]))


def test_zeros_are_counted_along_input_channels_for_conv_and_the_inner_axis_for_2_kinds_of_matrices() -> None:
    draw = np.random.default_rng(0).integers(1, 100, size=(8, 8, 3, 3))
    matrix = draw[:, :, 0, 0]
    for quantized in (False, True):
        right = model_of(
            ("Conv", pruned(draw, axis=1), {}), ("Gemm", pruned(matrix, axis=1), {"transB": 1}),
            ("MatMul", pruned(matrix, axis=0), {}), quantized=quantized,
        )  # fmt: skip
        assert structure_of(right) == Structure(3, 3)
        wrong = model_of(
            ("Conv", pruned(draw, axis=0), {}), ("Gemm", pruned(matrix, axis=0), {"transB": 1}),
            ("MatMul", pruned(matrix, axis=1), {}), quantized=quantized,
        )  # fmt: skip
        assert structure_of(wrong) == Structure(3, 0)


def test_a_first_layer_of_3_channels_is_not_counted_and_2_of_3_others_are_most() -> None:
    draw = np.random.default_rng(0).integers(1, 100, size=(8, 8, 3, 3))
    sparse: tuple[str, np.ndarray, dict[str, Any]] = ("Conv", pruned(draw, axis=1), {})
    seen = structure_of(model_of(("Conv", draw[:, :3], {}), sparse, sparse, ("Conv", draw, {}), quantized=True))
    assert seen == Structure(products=3, structured=2)
    assert seen.in_most
    assert not Structure(2, 1).in_most
    assert not Structure(0, 0).in_most
