"""Boxes of a detector and their average precision, by hand."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def detections(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file of the tool."""
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    from int8_peers import detections

    return detections


def test_two_squares_that_share_a_third_of_their_union(detections: Any) -> None:
    square, moved = np.array([[0.0, 0.0, 0.2, 0.2]]), np.array([[0.1, 0.0, 0.3, 0.2], [0.5, 0.5, 0.6, 0.6]])
    assert detections.overlaps(square, moved)[0].tolist() == pytest.approx([1 / 3, 0])


def test_of_2_cells_that_see_the_same_box_of_class_7_the_surer_one_is_kept(detections: Any) -> None:
    answer = np.zeros((85, 22, 22), np.float32)
    for column, sure in ((4, 0.9), (5, 0.5)):
        answer[0, 10, column] = sure
        answer[5 + 7, 10, column] = 0.8
        answer[3:5, 10, column] = np.log(0.5 / 0.5)  # width and height: half the picture
    boxes = detections.detected(answer)
    assert boxes.classes.tolist() == [7]
    assert boxes.scores.tolist() == pytest.approx([0.72])
    assert boxes.corners[0].tolist() == pytest.approx([4 / 22 - 0.25, 10 / 22 - 0.25, 4 / 22 + 0.25, 10 / 22 + 0.25])


def test_a_hit_a_miss_and_a_second_hit_of_2_truths_have_a_precision_of_83_percent(detections: Any) -> None:
    def boxes(*rows: tuple[float, float]) -> Any:
        corners = np.array([[left, 0.0, left + 0.1, 0.1] for left, _ in rows]).reshape(-1, 4)
        return detections.Boxes(corners, np.zeros(len(rows), np.int64), np.array([score for _, score in rows]))

    truths = [boxes((0.0, 1.0)), boxes((0.5, 1.0))]
    found = [boxes((0.0, 0.9), (0.3, 0.8)), boxes((0.5, 0.7))]  # hit, miss, hit: precisions 1, 1/2, 2/3
    # 51 of 101 recalls (0 to 0.5) at precision 1, 50 at 2/3.
    assert detections.mean_average_precision(found, truths) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert detections.mean_average_precision(truths, truths) == pytest.approx(1)
    assert detections.mean_average_precision([boxes(), boxes()], truths) == 0


def test_the_boxes_of_3_pictures_one_of_them_bare_are_read_back_as_they_were_kept(detections: Any) -> None:
    two = detections.Boxes(np.array([[0.0, 0.1, 0.2, 0.3], [0.5, 0.5, 1.0, 1.0]]), np.array([3, 79]), np.ones(2))
    one = detections.Boxes(np.array([[0.2, 0.2, 0.4, 0.4]]), np.array([0]), np.ones(1))
    none = detections.Boxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.ones(0))
    kept = detections.kept_truths([two, none, one])
    assert kept.shape == (3, 6)
    assert kept[:, 0].tolist() == [0, 0, 2]
    for back, first in zip(detections.truths_from(kept, pictures=3), [two, none, one], strict=True):
        assert back.corners.tolist() == first.corners.tolist()
        assert back.classes.tolist() == first.classes.tolist()


def test_an_answer_that_finds_1_of_2_boxes_has_a_map50_of_a_half(detections: Any) -> None:
    answers = np.zeros((2, 85, 22, 22), np.float32)
    answers[0, 0, 11, 11] = answers[0, 5 + 7, 11, 11] = 1.0  # width and height 0: half the picture
    box = np.array([[0.25, 0.25, 0.75, 0.75]])
    truths = [detections.Boxes(box, np.array([kind]), np.ones(1)) for kind in (7, 8)]
    # Class 7 is found on the first picture, the box of class 8 on the second is not.
    assert detections.map50_of(answers, truths) == pytest.approx(0.5)
    assert detections.map50_of(answers[:1], truths[:1]) == pytest.approx(1)
