"""Splits, their checks, their digest, and how inputs are dealt into parts."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.data.dataset import Dataset, Split, checked, inputs_for_network, sizes_from_fractions, split_indices
from pipeline.data.preprocess import Preprocess
from pipeline.errors import DataRefused

LABELS = ("cat", "dog", "hen")


def split(name: str, first: int, *, n: int = 6) -> Split:
    random = np.random.default_rng(first)
    inputs = random.normal(size=(n, 1, 4, 4)).astype(np.float32)
    return Split(name, inputs, np.arange(n, dtype=np.int64) % 3, np.arange(first, first + n, dtype=np.int64))


def dataset() -> Dataset:
    return Dataset("pets", split("train", 0), split("validation", 10), split("test", 20), labels=LABELS)


def test_three_clean_splits_of_6_pass_unchanged() -> None:
    clean = dataset()
    assert checked(clean) is clean
    assert clean.classes == 3
    assert clean.input_shape == (1, 4, 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_in_input_4_is_named_by_split_and_index_14(bad: float) -> None:
    data = dataset()
    data.validation.inputs[4, 0, 2, 2] = bad
    with pytest.raises(DataRefused, match=r"pets, split 'validation', index 14: .*NaN or infinity"):
        checked(data)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_outside_of_0_to_2_is_named_with_its_index(label: int) -> None:
    data = dataset()
    data.test.labels[5] = label
    with pytest.raises(DataRefused, match=rf"split 'test', index 25: label {label} is outside 0 … 2"):
        checked(data)


def test_a_train_split_of_one_class_is_refused() -> None:
    data = dataset()
    data.train.labels[:] = 1
    with pytest.raises(DataRefused, match="split 'train': all 6 inputs have the label 'dog'"):
        checked(data)


def test_a_data_set_of_one_class_name_is_refused() -> None:
    with pytest.raises(DataRefused, match="one class only"):
        checked(replace(dataset(), labels=("cat",)))


def test_index_3_in_train_and_in_test_is_refused() -> None:
    data = dataset()
    data.test.indices[0] = 3
    with pytest.raises(DataRefused, match="'train' and 'test' share 1 inputs, the first at index 3"):
        checked(data)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(DataRefused, match="split 'validation': there is no input"):
        checked(replace(dataset(), validation=split("validation", 10, n=0)))


def test_5_labels_for_6_inputs_are_refused() -> None:
    data = dataset()
    with pytest.raises(DataRefused, match="6 inputs, 5 labels and 6 indices"):
        checked(replace(data, train=replace(data.train, labels=data.train.labels[:5])))


def test_float64_inputs_are_refused() -> None:
    data = dataset()
    with pytest.raises(DataRefused, match="inputs are float64"):
        checked(replace(data, train=replace(data.train, inputs=data.train.inputs.astype(np.float64))))


def test_the_digest_changes_with_1_input_1_label_1_index_or_a_name() -> None:
    def changed(what: str) -> Dataset:
        data = dataset()
        getattr(data.test, what).reshape(-1)[0] += 1
        return data

    digests = {dataset().digest, replace(dataset(), labels=("cat", "dog", "cow")).digest}
    digests |= {changed(what).digest for what in ("inputs", "labels", "indices")}
    assert len(digests) == 5
    assert dataset().digest in digests


def test_the_digest_of_a_memory_map_is_that_of_the_array(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = dataset()
    path = tmp_path_factory.mktemp("map") / "inputs.npy"
    np.save(path, data.train.inputs)
    mapped = replace(data, train=replace(data.train, inputs=np.load(path, mmap_mode="r")))
    assert mapped.digest == data.digest


def test_white_pixels_become_the_number_that_the_mean_and_deviation_say() -> None:
    preprocess = Preprocess(channels=1, height=2, width=2, mean=(0.5,), std=(0.25,))
    data = replace(dataset(), preprocess=preprocess)
    answer = inputs_for_network(data, np.full((1, 1, 2, 2), 255, dtype=np.uint8))
    np.testing.assert_array_equal(answer, np.full((1, 1, 2, 2), 2, dtype=np.float32))  # (1 − 0.5) / 0.25, exact


def test_parts_of_60_20_20_hold_every_class_by_its_share() -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 30, 15, 5])
    parts = split_indices(labels, sizes=(60, 20, 20), seed=3)
    assert sorted(np.concatenate(parts)) == list(range(100))
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        counts = np.bincount(labels[part], minlength=4)
        assert np.abs(counts - share * np.array([50, 30, 15, 5])).max() <= 1


def test_the_same_seed_deals_the_same_parts_and_another_seed_others() -> None:
    labels = np.arange(100) % 7
    once, again, other = (split_indices(labels, sizes=(70, 30), seed=seed)[1].tolist() for seed in (1, 1, 2))
    assert once == again != other


def test_11_inputs_cannot_be_taken_from_10() -> None:
    with pytest.raises(DataRefused, match="there are 10"):
        split_indices(np.zeros(10, dtype=np.int64), sizes=(8, 3))


def test_fractions_that_add_up_to_1_lose_none_of_17_inputs() -> None:
    assert sizes_from_fractions(17, fractions=(0.7, 0.1, 0.2)) == (12, 2, 3)
