"""Operators that work on single values or move them: the imported network answers as ONNX Runtime does.

Tolerance everywhere: 1e-5 of the largest value, because exponentials and the like differ in their last bits.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.graph.module_from_onnx import module_from_onnx
from pipeline.graph.trace import traced
from pipeline.quantization.placement import placement_on

LAYERS: dict[str, tuple[str, dict[str, Any], type[nn.Module]]] = {
    "relu": ("Relu", {}, nn.ReLU),
    "leaky": ("LeakyRelu", {"alpha": 0.1}, nn.LeakyReLU),
    "sigmoid": ("Sigmoid", {}, nn.Sigmoid),
    "hard sigmoid of torch": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, nn.Hardsigmoid),
    "hard swish": ("HardSwish", {}, nn.Hardswish),
    "tanh": ("Tanh", {}, nn.Tanh),
    "elu": ("Elu", {"alpha": 0.7}, nn.ELU),
    "softplus": ("Softplus", {}, nn.Softplus),
}
FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "erf": ("Erf", {}),
    "exp": ("Exp", {}),
    "abs": ("Abs", {}),
    "neg": ("Neg", {}),
    "softmax of the last axis": ("Softmax", {"axis": -1}),
    "softmax of channels": ("Softmax", {"axis": 1}),
    "log softmax": ("LogSoftmax", {"axis": -1}),
    "hard sigmoid": ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    "identity": ("Identity", {}),
    "dropout": ("Dropout", {}),
}
ARITHMETIC = {
    "number": ("Add", np.array(2.5, np.float32), False),
    "number first": ("Sub", np.array([1.0], np.float32), True),
    "per channel": ("Mul", np.array([1, 2, 3, 4], np.float32).reshape(4, 1, 1), False),
    "per channel divided": ("Div", np.array([1, 2, 3, 4], np.float32).reshape(1, 4, 1, 1), False),
    "power": ("Pow", np.array(2.0, np.float32), False),
    "base": ("Pow", np.array(2.0, np.float32), True),
    "half precision": ("Add", np.array([0.5], np.float16).astype(np.float32), False),
    "larger": ("Max", np.array(0.25, np.float32), False),
}
MOVES: dict[str, tuple[str, dict[str, Any], dict[str, np.ndarray]]] = {
    "flatten": ("Flatten", {}, {}),
    "flatten later": ("Flatten", {"axis": 3}, {}),
    "reshape": ("Reshape", {}, {"s": np.array([1, 2, -1])}),
    "reshape with zeros": ("Reshape", {}, {"s": np.array([0, 0, -1])}),
    "reshape to a fixed flat shape": ("Reshape", {}, {"s": np.array([1, 4 * 6 * 5])}),
    "transpose": ("Transpose", {"perm": [0, 2, 3, 1]}, {}),
    "slice": ("Slice", {}, {"a": np.array([1, 0]), "b": np.array([3, 2**62]), "c": np.array([1, -1])}),
    "slice with steps": (
        "Slice", {}, {"a": np.array([0]), "b": np.array([-1]), "c": np.array([2]), "d": np.array([2])}),
    "slice of the whole batch": ("Slice", {}, {"a": np.array([0]), "b": np.array([1]), "c": np.array([0])}),
    "gather one": ("Gather", {"axis": 1}, {"i": np.array(-1)}),
    "gather a row": ("Gather", {"axis": 1}, {"i": np.array([0, 2])}),
    "gather any": ("Gather", {"axis": 2}, {"i": np.array([3, 0, 0, -1])}),
    "unsqueeze": ("Unsqueeze", {}, {"a": np.array([1, -1])}),
    "pad with zeros": ("Pad", {}, {"p": np.array([0, 0, 1, 0, 0, 0, 2, 1])}),
    "pad with a number": ("Pad", {}, {"p": np.array([0, 0, 1, 0, 0, 0, 2, 1]), "v": np.array(1.5, np.float32)}),
    "pad by reflection": ("Pad", {"mode": "reflect"}, {"p": np.array([0, 0, 0, 1, 0, 0, 0, 2])}),
    "pad with the edge": ("Pad", {"mode": "edge"}, {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
    "expand": ("Expand", {}, {"s": np.array([2, 1, 4, 6, 5])[1:]}),
    "join with a constant": ("Concat", {"axis": 1}, {"c": np.ones((1, 2, 6, 5), np.float32)}),
}  # fmt: skip
SHAPE = (4, 6, 5)


@pytest.mark.parametrize("case", LAYERS)
def test_an_activation_becomes_1_layer_of_torch(
    case: str, saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    operator, settings, kind = LAYERS[case]
    network = same_answers(saved([(operator, ["x"], "y", settings)], shape=(1, *SHAPE)), shape=SHAPE)
    assert [type(layer) for layer in network.children()] == [kind]


@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_function_of_1_tensor_answers_as_onnx_runtime(
    case: str, saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    operator, settings = FUNCTIONS[case]
    assert same_answers(saved([(operator, ["x"], "y", settings)], shape=("n", *SHAPE)), shape=SHAPE) is not None


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_of_opset_20_is_1_layer(
    approximate: str, saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    path = saved([("Gelu", ["x"], "y", {"approximate": approximate})], shape=(1, 7), opset=20)
    assert [type(layer) for layer in same_answers(path, shape=(7,)).children()] == [nn.GELU]


def test_softmax_before_opset_13_runs_over_all_axes_from_1_on(
    saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    network = same_answers(saved([("Softmax", ["x"], "y", {})], shape=(1, *SHAPE), opset=11), shape=SHAPE)
    with torch.no_grad():
        # 120 positive float32 numbers add up to 1 within a few last bits
        torch.testing.assert_close(network(torch.zeros(2, *SHAPE)).sum((1, 2, 3)), torch.ones(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ARITHMETIC)
def test_arithmetic_with_1_constant_answers_as_onnx_runtime(
    case: str, saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    operator, values, first = ARITHMETIC[case]
    inputs = ["c", "x"] if first else ["x", "c"]
    path = saved([(operator, inputs, "y", {})], shape=(1, *SHAPE), constants={"c": values})
    assert same_answers(path, shape=SHAPE) is not None


@pytest.mark.parametrize(
    ("low", "high", "kind"), [(0.0, 6.0, nn.ReLU6), (0.0, None, nn.ReLU), (-1.0, 1.0, None), (None, 2.0, None)]
)
@pytest.mark.parametrize("opset", [9, 17])
def test_clip_from_0_to_6_is_relu6_and_from_0_on_relu(
    low: float | None, high: float | None, kind: type[nn.Module] | None, opset: int, saved: Callable[..., Any],
    same_answers: Callable[..., Any],
) -> None:  # fmt: skip
    given = {name: value for name, value in (("min", low), ("max", high)) if value is not None}
    if opset == 9:
        path = saved([("Clip", ["x"], "y", given)], shape=(1, *SHAPE), opset=9)
    else:
        constants = {name: np.array(value, np.float32) for name, value in given.items()}
        names = [name if name in given else "" for name in ("min", "max")]
        path = saved([("Clip", ["x", *names], "y", {})], shape=(1, *SHAPE), constants=constants)
    network = same_answers(path, shape=SHAPE)
    assert [type(layer) for layer in network.children()] == ([kind] if kind else [])


@pytest.mark.parametrize("slope", [(1,), (4, 1, 1), (4, 6, 1)])
def test_prelu_with_1_slope_or_1_per_channel_is_a_layer(
    slope: tuple[int, ...], saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    values = np.linspace(0.1, 0.5, int(np.prod(slope)), dtype=np.float32).reshape(slope)
    network = same_answers(saved([("PRelu", ["x", "s"], "y", {})], shape=(1, *SHAPE), constants={"s": values}),
                           shape=SHAPE)  # fmt: skip
    assert len([layer for layer in network.children() if isinstance(layer, nn.PReLU)]) == (slope != (4, 6, 1))


@pytest.mark.parametrize("case", MOVES)
@pytest.mark.parametrize("batch", [1, "n"])
def test_what_moves_values_answers_as_onnx_runtime_for_batches_of_1_and_3(
    case: str, batch: int | str, saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    operator, settings, constants = MOVES[case]
    path = saved([(operator, ["x", *constants], "y", settings)], shape=(batch, *SHAPE), constants=constants)
    assert same_answers(path, shape=SHAPE, tolerance=0) is not None  # nothing is computed


def test_split_squeeze_and_concat_of_2_parts_in_old_and_new_operator_sets(
    saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    old: list[Any] = [
        ("Split", ["x"], ["a", "b"], {"axis": 1, "split": [1, 3]}), ("Squeeze", ["a"], "c", {"axes": [1]}),
        ("Unsqueeze", ["c"], "d", {"axes": [1]}), ("Concat", ["b", "d", "b"], "y", {"axis": 1}),
    ]  # fmt: skip
    assert same_answers(saved(old, shape=(1, *SHAPE), opset=9), shape=SHAPE, tolerance=0) is not None
    new: list[Any] = [
        ("Split", ["x", "sizes"], ["a", "b"], {"axis": 1}), ("Squeeze", ["a", "one"], "c", {}),
        ("Unsqueeze", ["c", "one"], "d", {}), ("Concat", ["b", "d", "b"], "y", {"axis": 1}),
    ]  # fmt: skip
    constants = {"sizes": np.array([1, 3]), "one": np.array([1])}
    assert same_answers(saved(new, shape=(1, *SHAPE), constants=constants), shape=SHAPE, tolerance=0) is not None


def test_a_squeeze_without_axes_keeps_the_axis_of_a_batch_of_1(saved: Callable[..., Any]) -> None:
    network = module_from_onnx(saved([("Squeeze", ["x"], "y", {})], shape=(1, 4, 1, 5)))
    assert network(torch.zeros(1, 4, 1, 5)).shape == (1, 4, 5)
    assert network(torch.zeros(3, 4, 1, 5)).shape == (3, 4, 5)


def test_a_shape_computed_by_a_chain_of_6_operators_is_a_constant(
    saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    steps: list[Any] = [
        ("Shape", ["x"], "s", {}), ("Gather", ["s", "zero"], "n", {}), ("Unsqueeze", ["n", "axes"], "n1", {}),
        ("Constant", [], "rest", {"value_ints": [-1]}), ("Concat", ["n1", "rest"], "t", {"axis": 0}),
        ("Cast", ["t"], "t64", {"to": 7}), ("Reshape", ["x", "t64"], "y", {}),
    ]  # fmt: skip
    constants = {"zero": np.array(0), "axes": np.array([0])}
    network = same_answers(saved(steps, shape=("n", *SHAPE), constants=constants), shape=SHAPE, tolerance=0)
    assert len(network.graph.nodes) == 3  # input, flatten, output


def test_a_channel_shuffle_that_moves_the_batch_to_axis_1_and_back_answers_for_3_inputs(
    saved: Callable[..., Any], same_answers: Callable[..., Any]
) -> None:
    steps: list[Any] = [
        ("Reshape", ["x", "first"], "a", {}), ("Transpose", ["a"], "b", {"perm": [1, 0, 2]}),
        ("Reshape", ["b", "second"], "c", {}), ("Gather", ["c", "one"], "y", {"axis": 0}),
    ]  # fmt: skip
    constants = {"first": np.array([2, 2, 30]), "second": np.array([2, -1, 2, 6, 5]), "one": np.array(1)}
    assert same_answers(saved(steps, shape=(1, *SHAPE), constants=constants), shape=SHAPE, tolerance=0) is not None


def test_an_added_number_is_no_addition_of_2_tensors_for_placement(saved: Callable[..., Any]) -> None:
    weight = np.ones((4, 4, 1, 1), np.float32)
    steps: list[Any] = [
        ("Conv", ["x", "w"], "a", {}), ("Add", ["a", "half"], "b", {}), ("Conv", ["b", "w"], "c", {}),
        ("Conv", ["c", "w"], "y", {}),
    ]  # fmt: skip
    network = module_from_onnx(
        saved(steps, shape=(1, *SHAPE), constants={"w": weight, "half": np.array(0.5, np.float32)})
    )
    placement = placement_on(traced(network))
    assert placement.weights == ("node_0", "node_2")
    assert set(placement.activations) == {"input_1", "node_0", "add", "node_2"}
