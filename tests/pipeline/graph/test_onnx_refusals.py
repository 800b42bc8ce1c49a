"""ONNX files that cannot be used are refused in a sentence that names what stands in the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import NetworkRefused
from pipeline.graph.module_from_onnx import module_from_onnx

WEIGHT = np.ones((4, 3, 3, 3), np.float32)


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises(NetworkRefused) as caught:
        module_from_onnx(path, **settings)
    return str(caught.value)


def test_2_operators_that_are_not_supported_are_named_at_once_with_their_counts(saved: Callable[..., Any]) -> None:
    own = {"domain": "mine"}
    steps: list[Any] = [
        ("Fold", ["x"], "a", own), ("Spin", ["x"], "b", own), ("Spin", ["b"], "c", own), ("Add", ["a", "c"], "y", {}),
    ]  # fmt: skip
    path = saved(steps, shape=(1, 3, 3))
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    onnx.save(model, path)
    assert "mine.Fold (1×), mine.Spin (2×); the first is the mine.Fold node 'node_0'" in refusal(path)


def test_an_unsupported_operator_that_no_kept_output_needs_does_not_matter(saved: Callable[..., Any]) -> None:
    path = saved([("Sin", ["x"], "z", {}), ("Relu", ["x"], "y", {})], shape=(1, 3), outputs=("y", "z"))
    network = module_from_onnx(path, outputs=("y",))
    assert torch.equal(network(torch.tensor([[-1.0, 0.0, 2.0]])), torch.tensor([[0.0, 0.0, 2.0]]))


def test_an_if_is_refused_as_control_flow(saved: Callable[..., Any]) -> None:
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["o"])], "branch", [],
                               [helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 3])])  # fmt: skip
    path = saved([("If", ["c"], "y", {"then_branch": branch, "else_branch": branch})], shape=(1, 3),
                 constants={"c": np.array(True)})  # fmt: skip
    assert "If node 'node_0' is control flow" in refusal(path)


def test_a_network_that_is_quantized_already_is_refused(saved: Callable[..., Any]) -> None:
    constants = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}
    steps: list[Any] = [("QuantizeLinear", ["x", "s", "z"], "q", {}), ("DequantizeLinear", ["q", "s", "z"], "y", {})]
    assert "is quantized already" in refusal(saved(steps, shape=(1, 3), constants=constants))


def test_a_dynamic_axis_2_is_refused_and_a_dynamic_axis_0_is_not(saved: Callable[..., Any]) -> None:
    assert "axis 2 of the input 'x' is dynamic ('width')" in refusal(
        saved([("Relu", ["x"], "y", {})], shape=("n", 3, "width"))
    )
    assert module_from_onnx(saved([("Relu", ["x"], "y", {})], shape=("n", 3, 4)))(torch.zeros(2, 3, 4)).shape[0] == 2


def test_of_2_outputs_the_nearest_name_to_a_wrong_one_is_offered(saved: Callable[..., Any]) -> None:
    path = saved([("Relu", ["x"], "boxes", {}), ("Exp", ["x"], "scores", {})], shape=(1, 3),
                 outputs=("boxes", "scores"))  # fmt: skip
    assert "Did you mean 'scores'?" in refusal(path, outputs=("score",))


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x07", b"PK\x03\x04" + bytes(200)])
def test_4_files_that_are_no_onnx_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    assert "no ONNX" in refusal(path)


def test_a_constant_of_a_type_that_does_not_exist_is_refused_by_name(saved: Callable[..., Any]) -> None:
    path = saved([("Add", ["x", "broken"], "y", {})], shape=(1, 3), constants={"broken": np.ones(3, np.float32)})
    model = onnx.load(path)
    model.graph.initializer[0].data_type = TensorProto.STRING
    path.write_bytes(model.SerializeToString())
    assert "broken" in refusal(path)


def test_a_file_that_is_missing_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "gone.onnx")
    assert "there is no file" in refusal(tmp_path)


@pytest.mark.parametrize("opset", [8, 21])
def test_operator_sets_8_and_21_are_refused(opset: int, saved: Callable[..., Any]) -> None:
    path = saved([("Relu", ["x"], "y", {})], shape=(1, 3), opset=opset)
    assert f"operator set {opset}; 9 to 20 are read" in refusal(path)


def test_an_input_of_8_bits_and_an_input_without_a_batch_axis_are_refused(saved: Callable[..., Any]) -> None:
    path = saved([("Relu", ["x"], "y", {})], shape=(3,))
    assert "has no batch axis" in refusal(path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    onnx.save(model, path)
    assert "is of type uint8; float, int64 and int32 are supported" in refusal(path)


def test_a_node_that_mixes_the_inputs_of_a_batch_is_named(saved: Callable[..., Any]) -> None:
    assert "Softmax node 'node_1' does not keep the inputs of a batch apart" in refusal(
        saved([("Relu", ["x"], "h", {}), ("Softmax", ["h"], "y", {"axis": 0})], shape=(1, 3))
    )
    assert "ReduceMean node 'node_0' does not keep" in refusal(
        saved([("ReduceMean", ["x"], "y", {"axes": [0], "keepdims": 0})], shape=(1, 3))
    )


def test_weights_that_are_computed_from_the_input_are_refused(saved: Callable[..., Any]) -> None:
    path = saved([("Exp", ["x"], "w", {}), ("Conv", ["x", "w"], "y", {})], shape=(1, 3, 4, 4))
    assert "Conv node 'node_1' computes its weights from the input" in refusal(path)


def test_a_constant_of_2_to_the_40_elements_is_refused_before_it_is_made(saved: Callable[..., Any]) -> None:
    steps: list[Any] = [
        ("ConstantOfShape", ["s"], "c", {}),
        ("ReduceSum", ["c"], "d", {}),
        ("Add", ["x", "d"], "y", {}),
    ]
    path = saved(steps, shape=(1, 3), constants={"s": np.array([2**20, 2**20])})
    assert "makes a very large constant" in refusal(path)


def beside(tmp_path: Path, location: str, *, length: int | None = None) -> Path:
    """A model in `tmp_path/model` whose weights lie at `location`."""
    folder = tmp_path / "model"
    folder.mkdir()
    weight = numpy_helper.from_array(WEIGHT, "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "16"), ("length", str(length or WEIGHT.nbytes))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="first")], "beside",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [weight],
    )  # fmt: skip
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


def test_weights_beside_the_model_are_read_from_byte_16_on(tmp_path: Path) -> None:
    path = beside(tmp_path, "weights.bin")
    (path.parent / "weights.bin").write_bytes(bytes(16) + (WEIGHT * 2).tobytes())
    assert torch.equal(module_from_onnx(path).get_parameter("first.weight"), torch.full((4, 3, 3, 3), 2.0))


@pytest.mark.parametrize("location", ["../weights.bin", "deeper/../../weights.bin", "link.bin", "{absolute}", ""])
def test_weights_outside_the_folder_of_the_model_are_refused_on_5_ways_out(location: str, tmp_path: Path) -> None:
    outside = tmp_path / "weights.bin"
    outside.write_bytes(bytes(16) + WEIGHT.tobytes())
    path = beside(tmp_path, location.replace("{absolute}", str(outside)))
    if location == "link.bin":
        (path.parent / location).symlink_to(outside)
    assert "outside its own folder" in refusal(path)


def test_weights_that_are_missing_or_end_after_448_bytes_too_few_are_refused(tmp_path: Path) -> None:
    path = beside(tmp_path, "weights.bin")
    assert "which is missing" in refusal(path)
    (path.parent / "weights.bin").write_bytes(bytes(10))
    assert "should end at byte 448, and the file has 10" in refusal(path)
