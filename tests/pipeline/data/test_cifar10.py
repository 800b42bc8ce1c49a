"""CIFAR-10 in its three forms, and pickles that do more than they should."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.cifar10 import Cifar10, part_from_binary, part_from_pickle
from pipeline.errors import DataMissing, DataRefused

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (120, 3, 32, 32), dtype=np.uint8)
ANSWERS = np.arange(120) % 10


def python_version(folder: Path) -> None:
    folder.mkdir(parents=True)
    for n in range(6):
        rows = slice(20 * n, 20 * n + 20)
        batch = {b"data": PIXELS[rows].reshape(20, -1), b"labels": ANSWERS[rows].tolist()}
        name = f"data_batch_{n + 1}" if n < 5 else "test_batch"
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def binary_version(folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = np.concatenate([ANSWERS[:, None].astype(np.uint8), PIXELS.reshape(120, -1)], axis=1)
    for n in range(6):
        name = f"data_batch_{n + 1}.bin" if n < 5 else "test_batch.bin"
        rows[20 * n : 20 * n + 20].tofile(folder / name)


def array_version(folder: Path) -> None:
    folder.mkdir(parents=True)
    pixels = PIXELS.transpose(0, 2, 3, 1)
    np.savez(
        folder / "some.npz",
        train_images=pixels[:100],
        train_labels=ANSWERS[:100, None],
        test_images=pixels[100:],
        test_labels=ANSWERS[100:, None],
    )


def test_three_forms_of_100_and_20_pictures_are_one_data_set(tmp_path: Path) -> None:
    digests = set()
    for write in (python_version, binary_version, array_version):
        write(tmp_path / write.__name__ / "below")
        data = Cifar10(validation=20)(tmp_path / write.__name__, cache=tmp_path)
        assert [len(split) for split in data.splits] == [80, 20, 20]
        assert (data.train.inputs == PIXELS[data.train.indices]).all()
        assert (data.test.inputs == PIXELS[data.test.indices]).all()
        digests.add(data.digest)
    assert len(digests) == 1


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harm-was-done",)


def test_a_pickle_that_calls_1_function_is_refused_by_its_name_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Harmful(), b"labels": [0]}))
    with pytest.raises(DataRefused, match=r"data_batch_1 wants to call (posix|nt)\.system"):
        part_from_pickle(path)
    assert not (tmp_path / "harm-was-done").exists()


def test_half_of_a_batch_and_a_batch_without_labels_are_refused(tmp_path: Path) -> None:
    python_version(tmp_path / "py")
    half, bare = tmp_path / "half", tmp_path / "bare"
    content = (tmp_path / "py" / "test_batch").read_bytes()
    half.write_bytes(content[: len(content) // 2])
    bare.write_bytes(pickle.dumps({b"data": PIXELS}))
    for path in (half, bare):
        with pytest.raises(DataRefused, match=f"{path.name} is no CIFAR-10 batch"):
            part_from_pickle(path)


def test_a_binary_file_of_3072_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(bytes(3072))
    with pytest.raises(DataRefused, match="3072 bytes, which is no multiple of 3 073"):
        part_from_binary(tmp_path / "x.bin")


def test_an_npz_of_objects_is_refused_and_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    harmful = np.array([Harmful()], dtype=object)
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez(tmp_path / "cifar10.npz", allow_pickle=True, **dict.fromkeys(names, harmful))
    with pytest.raises(DataRefused, match=r"cifar10\.npz cannot be read"):
        Cifar10()(tmp_path, cache=tmp_path)
    assert not (tmp_path / "harm-was-done").exists()


def test_label_10_is_refused_at_its_index(tmp_path: Path) -> None:
    array_version(tmp_path / "a")
    with np.load(tmp_path / "a" / "some.npz") as file:
        arrays = dict(file)
    arrays["test_labels"][3] = 10
    np.savez(tmp_path / "a" / "some.npz", **arrays)
    with pytest.raises(DataRefused, match="split 'test', index 103: label 10 is outside 0 … 9"):
        Cifar10(validation=20)(tmp_path, cache=tmp_path)


def test_without_data_the_3_forms_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"\.npz.*data_batch_1.*data_batch_1\.bin"):
        Cifar10()(tmp_path, cache=tmp_path)
    with pytest.raises(DataMissing, match="no folder was given"):
        Cifar10()(None, cache=tmp_path)


def test_batch_3_alone_missing_is_named_alone(tmp_path: Path) -> None:
    python_version(tmp_path / "py")
    (tmp_path / "py" / "data_batch_3").unlink()
    with pytest.raises(DataMissing, match="missing data_batch_3; looked"):
        Cifar10()(tmp_path, cache=tmp_path)


def test_the_small_set_has_11000_1000_and_3000_pictures(data_folder: Path, tmp_path: Path) -> None:
    if not (data_folder / "cifar10-small" / "cifar10_small.npz").is_file():
        pytest.skip(f"missing in {data_folder}: cifar10-small/cifar10_small.npz")
    data = Cifar10()(data_folder, cache=tmp_path)
    assert [len(split) for split in data.splits] == [11000, 1000, 3000]
    assert np.bincount(data.validation.labels).tolist() == [100] * 10
