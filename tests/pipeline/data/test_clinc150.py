"""CLINC150: texts to numbers by hand, files that cannot be used, and the real file by its published counts."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.clinc150_file import Clinc150, token_ids, vocabulary_of, words_of
from pipeline.errors import DataMissing, DataRefused

CONTENT: dict[str, Any] = {
    "train": [["pay my bill", "pay"], ["Pay the bill!", "pay"], ["my mom called", "call"], ["call my mom", "call"]],
    "val": [["pay mom", "pay"]],
    "test": [["call the the plumber", "call"], ["PAY it", "pay"]],
    "oos_train": [["tell me a joke", "oos"]],
}


def written(folder: Path, content: Any, *, packed: bool = True) -> Path:
    data = json.dumps(content).encode()
    path = folder / ("data_full.json.gz" if packed else "data_full.json")
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


def test_a_text_of_6_words_and_signs() -> None:
    assert words_of("What’s my $5 bill?") == ["what's", "my", "$", "5", "bill", "?"]


def test_of_5_words_the_2_most_frequent_get_2_and_3_and_what_occurs_once_none() -> None:
    assert vocabulary_of(["b a", "b c d", "b a e"], words=10) == {"b": 2, "a": 3}
    assert vocabulary_of(["b a", "b c d", "b a e"], words=3) == {"b": 2}
    assert vocabulary_of(["b a", "a b"], words=10) == {"a": 2, "b": 3}  # as frequent: by alphabet


def test_a_text_of_3_words_is_filled_up_with_0_and_cut_behind_2() -> None:
    vocabulary = {"call": 2, "mom": 3}
    assert token_ids("call my mom", vocabulary, length=5).tolist() == [2, 1, 3, 0, 0]
    assert token_ids("call my mom", vocabulary, length=2).tolist() == [2, 1]


@pytest.mark.parametrize("packed", [True, False])
def test_4_texts_to_learn_from_give_the_words_and_the_others_none(tmp_path: Path, packed: bool) -> None:
    (tmp_path / "below").mkdir()
    written(tmp_path / "below", CONTENT, packed=packed)
    data = Clinc150(length=4)(tmp_path)
    # my 3; bill, mom, pay 2; each other word once. "the" occurs three times, but once in the texts to learn from.
    assert data.train.inputs.tolist() == [[5, 2, 3, 0], [5, 1, 3, 1], [2, 4, 1, 0], [1, 2, 4, 0]]
    assert data.validation.inputs.tolist() == [[5, 4, 0, 0]]
    assert data.test.inputs.tolist() == [[1, 1, 1, 1], [5, 1, 0, 0]]
    assert data.labels == ("call", "pay")
    assert data.test.labels.tolist() == [0, 1]
    assert [split.indices.tolist() for split in data.splits] == [[0, 1, 2, 3], [4], [5, 6]]


def test_the_words_of_a_later_split_change_0_numbers_of_the_first(tmp_path: Path) -> None:
    written(tmp_path, CONTENT)
    before = Clinc150()(tmp_path).train.inputs
    written(tmp_path, {**CONTENT, "test": [["plumber plumber plumber", "call"], ["joke", "pay"]]})
    assert np.array_equal(Clinc150()(tmp_path).train.inputs, before)


def test_a_file_cut_off_behind_60_bytes_is_refused_and_so_is_an_absent_one(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"data_full\.json\.gz"):
        Clinc150()(tmp_path)
    path = written(tmp_path, CONTENT)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataRefused, match="cut short"):
        Clinc150()(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "no texts under train, val, test"),
        ({**CONTENT, "val": []}, "no texts under val"),
        ({**CONTENT, "val": {"a": "pay"}}, "no texts under val"),
        ({**CONTENT, "test": [["call", "call"], ["pay mom", "fly"]]}, "'test' entry 1: the intent 'fly'"),
        ({**CONTENT, "train": [["pay", "pay"], ["mom"]]}, "'train' entry 1"),
        ({**CONTENT, "train": [["pay", "pay"], ["  ", "call"]]}, "'train' entry 1"),
        ({**CONTENT, "train": [["pay", 3]]}, "'train' entry 0"),
    ],
)
def test_7_contents_that_are_no_intents_are_refused_by_place(tmp_path: Path, content: Any, said: str) -> None:
    written(tmp_path, content)
    with pytest.raises(DataRefused, match=said):
        Clinc150()(tmp_path)


def test_the_real_file_has_150_intents_with_100_20_and_30_texts_each(data_folder: Path) -> None:
    if not (data_folder / "clinc150" / "data_full.json.gz").is_file():
        pytest.skip(f"missing: {data_folder / 'clinc150' / 'data_full.json.gz'}")
    data = Clinc150()(data_folder / "clinc150")
    for split, each in zip(data.splits, (100, 20, 30), strict=True):
        assert np.bincount(split.labels, minlength=150).tolist() == [each] * 150
        assert split.inputs.dtype == np.float32
        assert split.inputs.min() == 0
        assert 2000 < split.inputs.max() <= 2499  # numbers of 2 500 words, padding and unknown among them
        assert not (split.inputs == 0).all(axis=1).any()
    # 8 of 15 000 texts have more than 22 words between spaces, so hardly any is cut.
    assert (data.train.inputs[:, -1] != 0).mean() < 0.005
