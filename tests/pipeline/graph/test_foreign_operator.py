"""Operators that torch has not stay in the network, in float, and come out of it again as they went in."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from pipeline.errors import NetworkRefused
from pipeline.graph.foreign_operator import ForeignOperator
from pipeline.graph.module_from_onnx import module_from_onnx
from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.lowering import lowered_for
from pipeline.stages.export import answers_of_onnx, onnx_of
from targets.target import Scheme

SEVEN = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")
SHAPE = (1, 4, 6, 6)


def around(operator: str, settings: dict[str, Any], *, inputs: tuple[str, ...] = ("a",)) -> list[Any]:
    """A convolution, the operator, a convolution and the mean over the pixels."""
    return [
        ("Conv", ["x", "w"], "a", {"pads": [1, 1, 1, 1]}), (operator, list(inputs), "b", settings),
        ("Conv", ["b", "v"], "c", {}), ("Relu", ["c"], "d", {}), ("GlobalAveragePool", ["d"], "e", {}),
        ("Flatten", ["e"], "f", {}), ("Gemm", ["f", "u"], "y", {}),
    ]  # fmt: skip


def constants(*, channels: int = 4, **more: np.ndarray) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes = {"w": (4, 4, 3, 3), "v": (8, channels, 1, 1), "u": (8, 3)}
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} | more


CASES: dict[str, tuple[list[Any], dict[str, np.ndarray], int]] = {
    "a number list": (around("LRN", {"size": 3, "alpha": 0.1, "beta": 0.5}), constants(), 17),
    "a word": (around("DepthToSpace", {"blocksize": 2, "mode": "CRD"}), constants(channels=1), 17),
    "2 constants": (
        around("InstanceNormalization", {"epsilon": 1e-3}, inputs=("a", "s", "o")),
        constants(s=np.full(4, 2, np.float32), o=np.ones(4, np.float32)), 17,
    ),
    "an older operator set": (around("LRN", {"size": 3}), constants(), 11),
    "an input left out": (
        around("Trilu", {"upper": 0}, inputs=("a", "")), constants(), 17,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_5_operators_answer_as_in_the_file_and_are_written_out_again(
    case: str, saved: Callable[..., Path], tmp_path: Path
) -> None:
    steps, values, opset = CASES[case]
    path = saved(steps, shape=SHAPE, constants=values, opset=opset)
    network = module_from_onnx(path)
    kinds = [type(layer) for layer in network.modules()]
    assert kinds.count(ForeignOperator) == 1
    asked = np.random.default_rng(1).normal(size=(5, *SHAPE[1:])).astype(np.float32)
    expected = answers_of_onnx(path, asked)
    again = tmp_path / "again.onnx"
    onnx.save(onnx_from_torch(copy.deepcopy(network), input_shape=SHAPE[1:]), again)
    assert steps[1][0] in [node.op_type for node in onnx.load(again).graph.node]
    with torch.inference_mode():
        answers = network(torch.from_numpy(asked)).numpy()
    # float32 sums in another order
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answers_of_onnx(again, asked), expected, rtol=1e-4, atol=1e-5)


def test_both_convolutions_around_a_foreign_operator_become_integer(saved: Callable[..., Path], tmp_path: Path) -> None:
    steps, values, _ = CASES["a number list"]
    graph, placement = watched(module_from_onnx(saved(steps, shape=SHAPE, constants=values)))
    assert len(placement.weights) == 2
    assert [why for why in placement.kept_float.values() if "the ONNX operator LRN" in why] != []
    student = quantized(graph, placement, amax=dict.fromkeys(placement.activations, 8.0), scheme=SEVEN)
    model = lowered_for(onnx_of(student.eval(), input_shape=SHAPE[1:]), SEVEN)
    onnx.save(model, tmp_path / "lowered.onnx")
    asked = np.random.default_rng(1).normal(size=(3, *SHAPE[1:])).astype(np.float32)
    with torch.inference_mode():
        expected = student(torch.from_numpy(asked)).numpy()
    # one code of the last quantized tensor, 8 / 127, weighted by the last layer
    assert np.abs(answers_of_onnx(tmp_path / "lowered.onnx", asked) - expected).max() < 0.1


def test_of_2_outputs_the_second_alone_can_be_read(saved: Callable[..., Path]) -> None:
    path = saved(
        [("TopK", ["x", "k"], ["most", "where"], {}), ("Cast", ["where"], "y", {"to": 1})],
        shape=(1, 6), constants={"k": np.array([2])},
    )  # fmt: skip
    network = module_from_onnx(path)
    assert network(torch.tensor([[1.0, 5.0, 2.0, 9.0, 0.0, 3.0]])).tolist() == [[3.0, 1.0]]


def test_an_operator_whose_meaning_has_changed_since_set_9_is_refused_by_name(saved: Callable[..., Path]) -> None:
    path = saved([("TopK", ["x"], ["y", "places"], {"k": 2})], shape=(1, 6), opset=9)
    with pytest.raises(NetworkRefused, match=r"TopK node 'node_0' has another meaning .* opset_version=17"):
        module_from_onnx(path)


def test_an_operator_that_joins_the_inputs_of_a_batch_is_refused_by_name(saved: Callable[..., Path]) -> None:
    path = saved([("CumSum", ["x", "axis"], "y", {"reverse": 1})], shape=(2, 6), constants={"axis": np.array(0)})
    with pytest.raises(NetworkRefused, match="CumSum node 'node_0' does not keep the inputs of a batch apart"):
        module_from_onnx(path)


def test_no_gradient_passes_and_0_says_so(saved: Callable[..., Path]) -> None:
    steps, values, _ = CASES["a number list"]
    network = module_from_onnx(saved(steps, shape=SHAPE, constants=values))
    with pytest.raises(RuntimeError, match="LRN"):
        network(torch.randn(SHAPE, requires_grad=True)).sum().backward()


def test_truth_values_of_an_operator_that_torch_has_not_choose_1_of_2_as_numpy_does(saved: Callable[..., Any]) -> None:
    steps = [("IsInf", ["x"], "m", {}), ("Where", ["m", "c", "x"], "y", {})]
    path = saved(steps, shape=("n", *SHAPE[1:]), constants={"c": np.array(0.1, np.float32)})
    inputs = np.random.default_rng(3).normal(size=(3, *SHAPE[1:])).astype(np.float32)
    inputs[:, 1] = np.inf
    with torch.no_grad():
        answers = module_from_onnx(path)(torch.from_numpy(inputs)).numpy()
    np.testing.assert_array_equal(answers, np.where(np.isinf(inputs), np.float32(0.1), inputs))
