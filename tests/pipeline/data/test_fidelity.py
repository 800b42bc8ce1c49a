"""Fidelity by hand, as R², and what of it is kept where an output says nothing."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipeline.data.dataset import Dataset, Split, checked
from pipeline.data.fidelity import Fidelity, fidelity_of, sizes_of
from pipeline.errors import DataRefused
from pipeline.graph.compare import agreement, agreement_within_rounding, unlike
from targets.accuracy import top1


def test_2_outputs_weigh_the_same_whatever_their_scale_by_hand() -> None:
    metric = Fidelity((1, 2))
    answers = np.array([[1.0, 100.0, 0.0], [3.0, 0.0, 100.0]])  # means 2; 50, 50. D: 1; 5000
    labels = metric.labels_from(answers)
    assert labels.shape == (2, 3 + 2)
    assert labels[0].tolist() == [1, 100, 0, 1, 5000]
    off = answers + np.array([[0.5, 0, 0], [0, 50, 0]])  # errors: (0.25 + 0) / 2; (0 + 0.5) / 2
    assert metric(off, labels).tolist() == [1 - 0.125, 1 - 0.25]
    assert metric(answers, labels).tolist() == [1 - 1e-9] * 2  # no nearer than float32 sums in another order
    assert metric(answers + 1000, labels).tolist() == [0, 0]  # and not below


def test_the_mean_answer_scores_0_and_the_mean_score_is_r_squared() -> None:
    random = np.random.default_rng(0)
    answers = random.normal(size=(50, 2, 3, 4)) + 7
    metric = Fidelity((24,))
    labels = metric.labels_from(answers)
    off = answers + 0.1 * random.normal(size=answers.shape)
    squares = np.square(off - answers).sum() / np.square(answers - answers.mean(0)).sum()
    assert metric(off, labels).mean() == pytest.approx(1 - squares, abs=1e-6)  # labels are float32
    mean = np.broadcast_to(answers.mean(0), answers.shape)
    assert metric(mean, labels).mean() < 0.2  # 0 but for the cut at 0 of the inputs beyond the mean


def test_answers_that_are_all_alike_are_refused_and_1_constant_output_of_2_is_not() -> None:
    metric = Fidelity((1, 1))
    with pytest.raises(DataRefused, match="answers all inputs alike"):
        metric.labels_from(np.ones((20, 2)))
    labels = metric.labels_from(np.stack([np.arange(20.0), np.full(20, 5.0)], axis=1))
    assert labels[:, 2].tolist() == labels[:, 3].tolist()  # the constant one borrows the scale of the other


def model(path: Path, steps: list[tuple[str, str, dict[str, object]]], *, features: int = 6) -> Path:
    nodes = [helper.make_node(kind, ["x"], [name], **settings) for kind, name, settings in steps]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for _, name, _ in steps]
    door = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, features, 2])
    graph = helper.make_graph(nodes, "g", [door], outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_only_1_output_of_2_axes_and_2_numbers_or_more_names_classes(tmp_path: Path) -> None:
    flat, relu = ("Flatten", "a", {}), ("Relu", "b", {})
    assert fidelity_of(model(tmp_path / "a.onnx", [flat])) is None
    assert fidelity_of(model(tmp_path / "b.onnx", [relu])) == Fidelity((12,))
    assert fidelity_of(model(tmp_path / "c.onnx", [flat, relu])) == Fidelity((12, 12))
    alone = ("ReduceMean", "m", {"axes": [1, 2], "keepdims": 0})
    assert fidelity_of(model(tmp_path / "d.onnx", [alone])) == Fidelity((1,))
    assert sizes_of(Fidelity((12, 3))) == (12, 3)
    assert sizes_of(top1) is None


def test_an_output_off_by_more_than_a_tenth_of_its_deviation_is_clearly_unequal() -> None:
    reference = np.array([[0.0, 1000.0], [2.0, 3000.0]])  # deviations 1 and 1000
    near, far = (reference + np.array([[0.09, change], [0, 0]]) for change in (90, 110))
    assert unlike(reference, near, sizes=(1, 1)).tolist() == [False, False]
    assert unlike(reference, far, sizes=(1, 1)).tolist() == [True, False]
    same = agreement(reference, far, sizes=(1, 1))
    assert (same.clearly_unequal, same.equal_answers) == (1, 0.5)
    # Of 1 input alone no deviation is known: the size of its answer stands for it.
    assert unlike(reference[:1], reference[:1] * 1.2 + 1e-9, sizes=(2,)).tolist() == [True]


def test_where_float32_moves_the_reference_by_6_percent_a_form_may_be_off_by_12() -> None:
    exact = np.array([[0.0], [2.0]])  # deviation 1
    near, far = exact + 0.11, exact + 0.13
    for form, clear in ((near, 0), (far, 2)):
        same = agreement_within_rounding(exact, form, single=exact + 0.06, sizes=(1,))
        assert same.clearly_unequal == clear  # 0.13 is beyond twice the rounding
    assert agreement(exact, near, sizes=(1,)).clearly_unequal == 2


def data(labels: np.ndarray) -> Dataset:
    splits = [
        Split(name, np.zeros((4, 3), np.float32), labels, 10 * place + np.arange(4))
        for place, name in enumerate(("train", "validation", "test"))
    ]
    return Dataset("values", *splits, labels=())


def test_data_without_classes_has_finite_floats_for_labels() -> None:
    assert checked(data(np.zeros((4, 7), np.float32))).classes == 0
    for wrong in (np.zeros(4, np.int64), np.full((4, 7), np.nan)):
        with pytest.raises(DataRefused, match="its labels must be finite floats"):
            checked(data(wrong))
