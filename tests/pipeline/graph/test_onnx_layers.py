"""Operators with weights, pooling and resizing: the imported network answers as ONNX Runtime does.

Tolerance everywhere: 1e-5 of the largest value, because float32 sums are taken in another order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.graph.module_from_onnx import module_from_onnx


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((3, 8, 8), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    "one axis": ((3, 9), (4, 3, 3), {"pads": [1, 1], "strides": [2]}),
    "groups": ((4, 8, 8), (8, 2, 3, 3), {"group": 2}),
    "depthwise with gaps": ((4, 9, 9), (4, 1, 3, 3), {"group": 4, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    "uneven padding": ((3, 8, 8), (4, 3, 3, 3), {"pads": [0, 1, 1, 0], "strides": [2, 2]}),
    "same upper": ((3, 8, 7), (4, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((3, 8, 7), (4, 3, 4, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 1]}),
    "valid": ((3, 8, 8), (4, 3, 3, 3), {"auto_pad": "VALID"}),
}
TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((3, 5, 5), (3, 4, 2, 2), {"strides": [2, 2]}),
    "groups": (
        (4, 5, 5), (4, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1], "output_padding": [1, 1], "strides": [2, 2]}),
    "uneven padding": ((3, 5, 5), (3, 4, 3, 3), {"pads": [0, 1, 1, 0], "strides": [2, 2]}),
    "given size": ((3, 5, 5), (3, 4, 3, 3), {"output_shape": [10, 10], "strides": [2, 2]}),
    "same upper": ((3, 5, 5), (3, 4, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "one axis": ((3, 7), (3, 4, 4), {"strides": [2], "pads": [1, 1]}),
}  # fmt: skip
POOLS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "max": ("MaxPool", (2, 9, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "max rounded up": ("MaxPool", (2, 8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "max uneven": ("MaxPool", (2, 8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "max same": ("MaxPool", (2, 8, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "max wide padding": ("MaxPool", (2, 8, 8), {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [2, 2, 2, 2]}),
    "max with gaps": ("MaxPool", (2, 9, 9), {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    "max one axis": ("MaxPool", (2, 9), {"kernel_shape": [2], "strides": [2]}),
    "mean": ("AveragePool", (2, 8, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "mean padded": ("AveragePool", (2, 9, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "mean with padding counted": (
        "AveragePool", (2, 9, 9), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "mean uneven": ("AveragePool", (2, 8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "mean uneven, counted": (
        "AveragePool", (2, 8, 8),
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1], "count_include_pad": 1}),
    "mean rounded up": ("AveragePool", (2, 8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "global mean": ("GlobalAveragePool", (2, 5, 7), {}),
    "global mean of one axis": ("GlobalAveragePool", (2, 7), {}),
    "global maximum": ("GlobalMaxPool", (2, 5, 7), {}),
    "mean over the picture": ("ReduceMean", (2, 5, 7), {"axes": [2, 3], "keepdims": 1}),
    "mean over the picture, flat": ("ReduceMean", (2, 5, 7), {"axes": [-1, -2], "keepdims": 0}),
    "mean over channels": ("ReduceMean", (4, 5, 7), {"axes": [1], "keepdims": 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_answers_as_onnx_runtime_within_1e5(
    case: str, saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    shape, kernel, settings = CONVOLUTIONS[case]
    constants = {"w": weights(*kernel), "b": weights(kernel[0])}
    path = saved([("Conv", ["x", "w", "b"], "y", settings)], shape=(1, *shape), constants=constants)
    network = same_answers(path, shape=shape)
    assert sum(isinstance(layer, (nn.Conv1d, nn.Conv2d)) for layer in network.modules()) == 1


@pytest.mark.parametrize("case", TRANSPOSED)
def test_a_transposed_convolution_answers_as_onnx_runtime_within_1e5(
    case: str, saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    shape, kernel, settings = TRANSPOSED[case]
    path = saved([("ConvTranspose", ["x", "w"], "y", settings)], shape=("n", *shape), constants={"w": weights(*kernel)})
    assert same_answers(path, shape=shape) is not None


@pytest.mark.parametrize("case", POOLS)
def test_pooling_answers_as_onnx_runtime_within_1e5(
    case: str, saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    operator, shape, settings = POOLS[case]
    assert same_answers(saved([(operator, ["x"], "y", settings)], shape=(1, *shape)), shape=shape) is not None


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_with_alpha_half_and_beta_2_is_1_linear_layer(
    transposed: int, saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    settings = {"alpha": 0.5, "beta": 2.0, "transB": transposed}
    weight = weights(4, 6) if transposed else weights(6, 4)
    path = saved([("Gemm", ["x", "w", "b"], "y", settings)], shape=(1, 6), constants={"w": weight, "b": weights(4)})
    network = same_answers(path, shape=(6,))
    assert [type(layer) for layer in network.children()] == [nn.Linear]


def test_a_matrix_product_takes_the_bias_added_after_it_into_1_linear_layer(
    saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    steps: list[Any] = [("MatMul", ["x", "w"], "h", {}), ("Add", ["b", "h"], "r", {}), ("Relu", ["r"], "y", {})]
    path = saved(steps, shape=(1, 5, 6), constants={"w": weights(6, 4), "b": weights(4)})
    network = same_answers(path, shape=(5, 6))
    assert [type(layer) for layer in network.children()] == [nn.Linear, nn.ReLU]


def test_a_product_that_2_calls_read_keeps_its_bias_apart(
    saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    steps: list[Any] = [("MatMul", ["x", "w"], "h", {}), ("Add", ["h", "b"], "r", {}), ("Mul", ["h", "r"], "y", {})]
    path = saved(steps, shape=(1, 6), constants={"w": weights(6, 4), "b": weights(4)})
    network = same_answers(path, shape=(6,))
    assert next(layer for layer in network.children() if isinstance(layer, nn.Linear)).bias is None


def test_attention_between_2_activations_is_a_product_of_both(
    saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    steps: list[Any] = [
        ("Transpose", ["x"], "t", {"perm": [0, 2, 1]}), ("MatMul", ["x", "t"], "p", {}),
        ("Softmax", ["p"], "s", {"axis": -1}), ("MatMul", ["s", "x"], "y", {}),
    ]  # fmt: skip
    assert same_answers(saved(steps, shape=(1, 5, 6)), shape=(5, 6)) is not None


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 5, 6)])
def test_batch_norm_of_4_channels_answers_as_onnx_runtime(
    shape: tuple[int, ...], saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    constants = {"g": weights(4), "b": weights(1, 4)[0], "m": weights(1, 1, 4)[0, 0], "v": np.abs(weights(4)) + 0.1}
    path = saved([("BatchNormalization", ["x", "g", "b", "m", "v"], "y", {"epsilon": 1e-3})], shape=(1, *shape),
                 constants=constants)  # fmt: skip
    assert same_answers(path, shape=shape) is not None


def test_layer_norm_over_6_values_answers_as_onnx_runtime(
    saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    steps: list[Any] = [("LayerNormalization", ["x", "g", "b"], "y", {"axis": -1})]
    path = saved(steps, shape=(1, 5, 6), constants={"g": weights(6), "b": weights(1, 6)[0]})
    assert [type(layer) for layer in same_answers(path, shape=(5, 6)).children()] == [nn.LayerNorm]


RESIZES: dict[str, dict[str, Any]] = {
    "nearest asymmetric": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "nearest half pixel": {},
    "nearest rounded": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "round_prefer_ceil"},
    "linear half pixel": {"mode": "linear"},
    "linear corners": {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    "linear as torch exports it": {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    "cubic": {"mode": "cubic"},
}


@pytest.mark.parametrize("scales", [(2.0, 2.0), (3.0, 3.0), (1.6, 1.6)])
@pytest.mark.parametrize("case", RESIZES)
def test_resizing_by_2_3_and_1_point_6_answers_as_onnx_runtime(
    case: str, scales: tuple[float, float], saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    constants = {"s": np.array([1, 1, *scales], np.float32)}
    path = saved([("Resize", ["x", "", "s"], "y", RESIZES[case])], shape=(1, 2, 5, 7), constants=constants)
    assert same_answers(path, shape=(2, 5, 7), tolerance=1e-4) is not None  # places are computed in float32 by both


def test_a_resize_to_given_sizes_and_an_upsample_of_opset_9_answer_alike(
    saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    path = saved([("Resize", ["x", "", "", "s"], "y", {"mode": "linear"})], shape=(1, 2, 5, 7),
                 constants={"s": np.array([1, 2, 11, 9], np.int64)})  # fmt: skip
    assert same_answers(path, shape=(2, 5, 7), tolerance=1e-4)(torch.zeros(4, 2, 5, 7)).shape == (4, 2, 11, 9)
    path = saved([("Upsample", ["x", "s"], "y", {"mode": "nearest"})], shape=(1, 2, 5, 7), opset=9,
                 constants={"s": np.array([1, 1, 2, 2], np.float32)})  # fmt: skip
    assert same_answers(path, shape=(2, 5, 7))(torch.zeros(4, 2, 5, 7)).shape == (4, 2, 10, 14)


def test_the_import_draws_0_numbers_from_the_global_generator(saved: Callable[..., Any]) -> None:
    path = saved([("Conv", ["x", "w"], "y", {})], shape=(1, 3, 8, 8), constants={"w": weights(4, 3, 3, 3)})
    before = torch.get_rng_state()
    module_from_onnx(path)
    assert torch.equal(torch.get_rng_state(), before)
