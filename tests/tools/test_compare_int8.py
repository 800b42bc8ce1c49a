"""The comparison with other quantizers: figures by hand, turns, choosing, and a network of three layers."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from pipeline.graph.onnx_from_torch import onnx_from_torch

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(autouse=True)
def _tools_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])


@pytest.fixture
def task(tmp_path: Path) -> Any:
    """A small network with 48 inputs to choose with, 24 of them to calibrate with, as the comparison writes them."""
    from int8_peers.task import task_in

    from pipeline.store import write_json

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 4),
    )  # fmt: skip
    inputs = np.random.default_rng(0).normal(size=(48, 3, 8, 8)).astype(np.float32)
    inputs *= np.linspace(0.2, 3.0, 48, dtype=np.float32)[:, None, None, None]
    with torch.inference_mode():
        network[6].bias -= network(torch.from_numpy(inputs)).mean(0)  # else all answers are one class
        answers = network(torch.from_numpy(inputs)).numpy()
    given = tmp_path / "given"
    given.mkdir()
    onnx.save(onnx_from_torch(network, input_shape=(3, 8, 8)), given / "float.onnx")
    labels = np.arange(48) % 4
    places = np.arange(0, 48, 2)
    arrays = {"choosing": inputs, "calibration": inputs[places], "labels": labels, "answers": answers, "places": places}
    for name, array in arrays.items():
        np.save(given / f"{name}.npy", array)
    write_json(given / "key.json", "a key")
    (tmp_path / "judged").mkdir()
    np.save(tmp_path / "judged" / "inputs.npy", inputs)
    np.save(tmp_path / "judged" / "labels.npy", labels)
    return task_in(tmp_path, tool="onnxruntime_static", threads=1)


def test_the_ratio_of_3_rounds_is_the_median_of_their_3_ratios() -> None:
    from int8_peers.measuring import figures

    found = figures([1.0, 4.0, 3.0], [2.0, 4.0, 12.0])  # 0.5, 1, 0.25
    assert (found["median_ms"], found["ratio"]) == (3.0, 0.5)


def test_in_5_rounds_each_call_is_made_10_times_and_5_of_them_are_timed() -> None:
    from int8_peers.measuring import in_turns_ms

    made: list[str] = []
    times = in_turns_ms([lambda: made.append("a"), lambda: made.append("b")], rounds=5, seed=0)
    assert [len(each) for each in times] == [5, 5]
    rounds = ["".join(made[place : place + 4]) for place in range(0, 20, 4)]
    assert set(rounds) == {"aabb", "bbaa"}  # either order comes up, and never one call between two of the other


def test_the_error_of_answers_that_are_always_the_mean_is_1() -> None:
    from int8_peers.task import error_of

    wanted = np.array([[1.0, 2.0], [3.0, -2.0]], dtype=np.float32)
    assert error_of(np.array([[2.0, 0.0], [2.0, 0.0]], dtype=np.float32), wanted) == 1.0
    assert error_of(wanted, wanted) == 0.0


def test_of_2_settings_the_exact_one_is_kept_and_a_3rd_that_fails_is_told(task: Any) -> None:
    from int8_peers.task import chosen

    worse = onnx.load(task.model)
    weight = next(each for each in worse.graph.initializer if each.dims)
    weight.raw_data = bytes(len(weight.raw_data))

    def fails(path: Path) -> None:
        raise KeyError("Swish")

    ways = {
        "worse": lambda path: onnx.save(worse, path),
        "exact": lambda path: onnx.save(onnx.load(task.model), path),
        "fails": fails,
    }
    task.labels[:] = task.answers.argmax(1)
    found = chosen(task, ways, stem="kept", suffix=".onnx", runtime="onnxruntime")
    assert [form.scheme for form in found.forms] == ["exact"]
    assert onnx.load(task.folder / "kept.onnx") == onnx.load(task.model)
    assert found.tried[1].accuracy == 1.0
    assert found.tried[2].failed == "KeyError: 'Swish'"


def test_the_quantizer_of_onnx_runtime_makes_3_of_3_products_integer(task: Any) -> None:
    from int8_peers.onnxruntime_static import quantized
    from int8_peers.opening import integer_operators

    found = quantized(task)
    assert len(found.tried) == 6
    seven_bits = [tried.error for tried in found.tried[::2]]
    assert all(error is not None and error < 0.06 for error in seven_bits)  # 0.031 when this was written
    path = task.folder / found.forms[0].file
    assert integer_operators(path, runtime="onnxruntime", threads=1) == (3, 3)


def test_a_quantizer_whose_package_is_absent_is_1_line_and_a_network_without_others_is_measured(
    task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compare_int8 import result_in
    from int8_peers import carry_out, measuring, modelopt_onnx
    from int8_peers.table import comparison_lines

    monkeypatch.setattr(modelopt_onnx, "PACKAGES", ("a-distribution-that-nobody-has",))
    monkeypatch.setattr(measuring, "SITTING_S", 0.05)
    monkeypatch.setattr(measuring, "ROUNDS", (3, 3))
    network = task.model.parent.parent
    carry_out.quantize("modelopt_onnx", network, threads=1)
    carry_out.measure(network, threads=1)
    lines = comparison_lines([result_in(network, ["modelopt_onnx"])])
    row = next(line for line in lines if "modelopt_onnx" in line)
    assert "missing: ModuleNotFoundError: No distribution a-distribution-that-nobody-has" in row
    assert "| float in onnxruntime | float32 |" in lines[2]
    assert "| 1.000 (" in lines[2]  # the ratio of the float network to itself


def test_a_row_with_a_map50_of_a_third_shows_33_percent_and_one_without_a_dash() -> None:
    from int8_peers.table import inputs_lines, map50_cell

    assert map50_cell({"map50": 1 / 3}) == "33.33 %"
    assert map50_cell({"map50": None}) == map50_cell({}) == "–"
    detector = {"name": "boxes", "calibration": 60, "metric": "fidelity", "rows": [{"n": 51, "map50": 1 / 3}]}
    (line,) = inputs_lines([detector])
    assert line.startswith("- boxes: 60 inputs to calibrate on, 51 others to judge by; accuracy is fidelity")
    assert line.endswith("mAP50 of the boxes on those 51 pictures")


def test_of_3_engines_the_2_of_one_tool_in_one_runtime_are_told_apart_by_their_scheme() -> None:
    from int8_peers.table import peer_cell

    rows = [
        {"tool": tool, "runtime": "openvino", "scheme": scheme}
        for tool, scheme in (("a", "static"), ("a", "dynamic"), ("b", "static"))
    ]
    assert [peer_cell(row, rows) for row in rows] == [
        "a in openvino: static",
        "a in openvino: dynamic",
        "b in openvino",
    ]


def test_the_boxes_of_a_test_of_2_pictures_reach_the_rows_as_map50(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from int8_peers import measuring

    network = task.model.parent.parent
    np.save(network / "judged" / "boxes.npy", np.array([[0, 7, 0.1, 0.1, 0.2, 0.2], [1, 8, 0.1, 0.1, 0.2, 0.2]]))
    seen: list[tuple[int, list[int]]] = []

    def map50_of(answers: Any, truths: Any) -> float:
        seen.append((len(answers), [len(each.classes) for each in truths[:3]]))
        return 0.25

    monkeypatch.setattr(measuring, "map50_of", map50_of)
    monkeypatch.setattr(measuring, "SITTING_S", 0.05)
    monkeypatch.setattr(measuring, "ROUNDS", (3, 3))
    rows = measuring.measured(network, measuring.forms_in(network)[:1], threads=1)
    assert [row["map50"] for row in rows] == [0.25]
    assert seen == [(48, [1, 1, 0])]


def test_a_softmax_in_front_of_a_product_of_2_tensors_is_attention_and_a_head_of_classes_is_not(
    task: Any, tmp_path: Path
) -> None:
    from int8_peers.transformer import is_transformer

    from pipeline.models.text_encoder import TextEncoder

    assert not is_transformer(task.model)
    encoder = TextEncoder(words=20, classes=3, length=4, depth=1, width=8)
    onnx.save(onnx_from_torch(encoder, input_shape=(4,)), tmp_path / "encoder.onnx")
    assert is_transformer(tmp_path / "encoder.onnx")


def test_of_4_nodes_the_2_behind_the_last_convolution_are_the_tail(tmp_path: Path) -> None:
    from int8_peers.onnxruntime_static import behind_products
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "first"), helper.make_node("Conv", ["a", "w"], ["b"], "second"),
        helper.make_node("Sigmoid", ["b"], ["c"], "third"), helper.make_node("Mul", ["b", "c"], ["y"], "fourth"),
    ]  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, 2]) for name in "xy"]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [1.0])
    graph = helper.make_graph(nodes, "tail", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph), tmp_path / "tail.onnx")
    assert sorted(behind_products(tmp_path / "tail.onnx")) == ["fourth", "third"]


def test_of_2_kinds_one_of_which_fails_the_other_is_kept_and_the_failure_told(task: Any) -> None:
    from int8_peers.transformer import chosen_each

    def fails(path: Path) -> None:
        raise KeyError("Gelu")

    kinds = {"static": {"all": fails}, "dynamic": {"exact": lambda path: onnx.save(onnx.load(task.model), path)}}
    found = chosen_each(task, kinds, suffix=".onnx", runtime="onnxruntime")
    assert [form.file for form in found.forms] == ["dynamic.onnx"]
    assert [each.failed for each in found.tried] == ["KeyError: 'Gelu'", ""]
    with pytest.raises(RuntimeError, match="Gelu"):
        chosen_each(task, {"static": {"all": fails}}, suffix=".onnx", runtime="onnxruntime")


def test_a_lead_of_1_of_4_answers_is_met_and_a_time_of_twice_the_peers_is_missed() -> None:
    from int8_peers.table import accuracy_bar, latency_bar

    ours = {"accuracy": 0.75, "right": [1, 1, 1, 0], "samples_ms": [2.0] * 20}
    peer = {"accuracy": 0.5, "right": [1, 1, 0, 0], "samples_ms": [1.0] * 20}
    assert accuracy_bar(ours, peer).startswith("+25.00 (")
    assert accuracy_bar(ours, peer).endswith("met")
    assert latency_bar(ours, peer) == "2.000 (2.000 to 2.000): missed"


@pytest.mark.slow
def test_ours_leaves_1_engine_that_is_handed_over_and_1_at_least_that_is_not(task: Any) -> None:
    from int8_peers import carry_out
    from int8_peers.opening import NOT_HANDED_OVER

    from pipeline.store import read_json

    network = task.model.parent.parent
    carry_out.quantize("ours", network, threads=1)
    forms = read_json(network / "ours" / "outcome.json")["forms"]
    assert all((network / "ours" / form["file"]).is_file() for form in forms)
    lost = [NOT_HANDED_OVER in form["scheme"] for form in forms]
    assert lost[0] is False
    assert len(lost) >= 2
    assert all(lost[1:])
