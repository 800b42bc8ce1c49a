"""The digits of scikit-learn."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from pipeline.data.dataset import inputs_for_network
from pipeline.data.sklearn_digits import Digits, table


def test_750_197_and_850_grey_pictures_of_32_by_32_come_out(tmp_path: Path) -> None:
    digits = Digits()(None, cache=tmp_path)
    assert [len(split) for split in digits.splits] == [750, 197, 850]
    assert digits.train.inputs.dtype == np.uint8
    assert digits.input_shape == (1, 32, 32)
    assert sorted(np.concatenate([split.indices for split in digits.splits])) == list(range(1797))
    assert list(tmp_path.iterdir()) == []


def test_every_digit_is_a_tenth_of_every_part() -> None:
    for split in Digits()().splits:
        counts = np.bincount(split.labels, minlength=10)
        # the source has 174 to 183 of each: 3 % around a tenth, and 2 for the rounding of a part
        assert np.abs(counts - len(split) / 10).max() <= 0.035 * len(split) / 10 + 2


def test_the_training_inputs_have_mean_0_and_deviation_1() -> None:
    digits = Digits()()
    inputs = inputs_for_network(digits, digits.train.inputs)
    # the settings are rounded to 4 places, and the deviation is about 0.3
    assert abs(inputs.mean()) < 5e-4
    assert abs(inputs.std() - 1) < 5e-4


def test_two_calls_give_one_digest_and_another_seed_another() -> None:
    assert Digits()().digest == Digits()().digest != Digits(seed=1)().digest


def test_at_its_own_size_of_8_the_16_grey_steps_are_kept() -> None:
    values = np.unique(Digits(size=8)().train.inputs)
    assert len(values) == 17
    assert (values[0], values[-1]) == (0, 255)


def test_the_1797_rows_read_from_the_file_are_those_that_scikit_learn_gives() -> None:
    given = load_digits()
    assert np.array_equal(table(), np.column_stack([given.data, given.target]))
