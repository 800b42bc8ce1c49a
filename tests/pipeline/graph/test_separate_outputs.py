"""Several outputs are one tensor inside and themselves again, by name and shape, in the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from pipeline.errors import NetworkRefused
from pipeline.graph.module_from_onnx import module_from_onnx
from pipeline.graph.separate_outputs import JoinedOutputs, outputs_apart, outputs_named
from pipeline.graph.trace import traced
from pipeline.stages.export import onnx_of
from targets.engines.ort import open_onnx
from targets.engines.session import joined


@pytest.fixture
def detector(saved: Callable[..., Path]) -> Path:
    """An input of 3×4×4 → `scores` (1, 6), `7` (1, 2, 16) and `input` (1): names and ranks of every kind."""
    weight = np.random.default_rng(0).normal(size=(2, 3, 1, 1)).astype(np.float32)
    constants = {"w": weight, "s": np.array([1, 2, 16]), "one": np.array([0]), "six": np.array([0, 2]),
                 "three": np.array([1, 5]), "axes": np.array([1, 2])}  # fmt: skip
    steps: list[Any] = [
        ("Conv", ["x", "w"], "h", {}),
        ("Reshape", ["h", "s"], "7", {}),
        ("Slice", ["7", "six", "three", "axes"], "t", {}),
        ("Flatten", ["t"], "scores", {}),
        ("ReduceMean", ["h"], "input", {"axes": [1, 2, 3], "keepdims": 0}),
    ]
    return saved(steps, shape=(1, 3, 4, 4), constants=constants, outputs=("scores", "7", "input"))


def test_3_outputs_are_answered_as_36_numbers_in_the_order_of_the_file(
    detector: Path, same_answers: Callable[..., Any]
) -> None:
    network = same_answers(detector, shape=(3, 4, 4))
    with torch.no_grad():
        assert network(torch.zeros(5, 3, 4, 4)).shape == (5, 3 + 32 + 1)


def test_the_exported_file_has_the_3_outputs_with_their_names_and_shapes(detector: Path, tmp_path: Path) -> None:
    network = traced(traced(module_from_onnx(detector)))  # as often as the stages do
    model = onnx_of(network, input_shape=(3, 4, 4))
    onnx.checker.check_model(model, full_check=True)
    shapes = {each.name: [axis.dim_value for axis in each.type.tensor_type.shape.dim] for each in model.graph.output}
    assert shapes == {"scores": [1, 3], "7": [1, 2, 16], "input": [1]}
    onnx.save(model, tmp_path / "again.onnx")
    inputs = np.random.default_rng(1).normal(size=(3, 3, 4, 4)).astype(np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(inputs)).numpy()
    # The same sums of 3 products in another order: 1e-5 of numbers near one.
    np.testing.assert_allclose(open_onnx(tmp_path / "again.onnx", threads=1)(inputs), wanted, rtol=0, atol=1e-5)


def test_1_output_of_rank_3_stays_as_it_is(saved: Callable[..., Path], same_answers: Callable[..., Any]) -> None:
    network = same_answers(saved([("Relu", ["x"], "y", {})], shape=(1, 3, 4)), shape=(3, 4))
    assert network(torch.ones(2, 3, 4)).shape == (2, 3, 4)
    assert not [each for each in network.modules() if isinstance(each, JoinedOutputs)]


def test_an_output_whose_axis_1_is_the_batch_is_refused(saved: Callable[..., Path]) -> None:
    steps: list[Any] = [("Relu", ["x"], "y", {}), ("Transpose", ["x"], "z", {"perm": [1, 0]})]
    with pytest.raises(NetworkRefused, match="the output 'z' does not begin with the axis of the batch"):
        module_from_onnx(saved(steps, shape=(1, 3), outputs=("y", "z")))


def test_the_outputs_are_joined_again_after_an_export_that_fails(detector: Path) -> None:
    network = module_from_onnx(detector)
    with pytest.raises(KeyError), outputs_apart(network) as names:
        assert names == ("scores", "7", "input")
        raise KeyError
    assert network(torch.zeros(1, 3, 4, 4)).shape == (1, 36)


def test_a_tensor_inside_that_has_the_name_of_an_output_makes_way_for_it(saved: Callable[..., Path]) -> None:
    steps: list[Any] = [("Relu", ["x"], "boxes", {}), ("Exp", ["boxes"], "y", {}), ("Neg", ["boxes"], "z", {})]
    model = onnx.load(saved(steps, shape=(1, 3), outputs=("y", "z")))
    outputs_named(model, ("boxes", "y"))
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(model), full_check=True)
    assert [each.name for each in model.graph.output] == ["boxes", "y"]
    assert [list(node.input) + list(node.output) for node in model.graph.node] == [
        ["x", "boxes.inner"], ["boxes.inner", "boxes"], ["boxes.inner", "y"],
    ]  # fmt: skip


def test_outputs_of_2_and_3_inputs_cannot_be_joined() -> None:
    assert joined([np.zeros((2, 3, 1)), np.ones((2, 1))]).tolist() == [[0, 0, 0, 1]] * 2
    assert joined([np.zeros((2, 3, 1))]).shape == (2, 3, 1)
    with pytest.raises(Exception, match=r"shapes \(2, 1\), \(3, 1\), do not begin with one axis of the batch"):
        joined([np.zeros((2, 1)), np.zeros((3, 1))])
