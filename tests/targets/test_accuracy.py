"""Scores by hand, and answers that are no answers."""

import numpy as np
import pytest

from targets.accuracy import scores_of, top1, top5
from targets.errors import EngineFailed

OUTPUTS = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5], [0.4, 0.4, 0.2]], dtype=np.float32)


class Recorded:
    """A runner that answers with its inputs and keeps how many it was asked at a time."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        self.asked.append(len(inputs))
        return inputs

    def close(self) -> None:
        pass


def test_2_of_4_highest_outputs_are_right_and_the_first_of_equals_counts() -> None:
    assert top1(OUTPUTS, np.array([1, 2, 1, 0])).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_the_fifth_highest_of_7_counts_and_the_sixth_does_not() -> None:
    outputs = np.array([[7, 6, 5, 4, 3, 2, 1]] * 3, dtype=np.float32)
    assert top5(outputs, np.array([4, 5, 0])).tolist() == [1.0, 0.0, 1.0]


def test_fewer_than_5_classes_are_all_among_the_top_5() -> None:
    assert top5(OUTPUTS, np.array([0, 1, 2, 2])).tolist() == [1.0] * 4


def test_10_inputs_in_batches_of_4_are_asked_as_4_4_2() -> None:
    runner = Recorded()
    inputs = np.eye(10, dtype=np.float32)
    accuracy = scores_of(runner, inputs, np.arange(10), metric=top1, batch=4)
    assert runner.asked == [4, 4, 2]
    assert accuracy.scores == (1.0,) * 10


def test_a_nan_in_the_answer_to_input_7_is_named() -> None:
    inputs = np.eye(10, dtype=np.float32)
    inputs[7, 3] = np.nan
    with pytest.raises(EngineFailed, match="input 7 holds NaN"):
        scores_of(Recorded(), inputs, np.arange(10), metric=top1, batch=4)


def test_an_answer_too_few_is_refused() -> None:
    class Short(Recorded):
        def __call__(self, inputs: np.ndarray) -> np.ndarray:
            return inputs[1:]

    with pytest.raises(EngineFailed, match="3 answers to 4 inputs"):
        scores_of(Short(), OUTPUTS, np.zeros(4), metric=top1)


def test_a_metric_outside_0_to_1_is_refused_by_name() -> None:
    def percent(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.full(len(outputs), 100.0)

    with pytest.raises(ValueError, match="percent"):
        scores_of(Recorded(), OUTPUTS, np.zeros(4), metric=percent)


def test_4_inputs_need_4_labels() -> None:
    with pytest.raises(ValueError, match="4 and 3"):
        scores_of(Recorded(), OUTPUTS, np.zeros(3))
