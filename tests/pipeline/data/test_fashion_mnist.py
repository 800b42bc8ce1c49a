"""Fashion-MNIST: the IDX files, found or downloaded."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.fashion_mnist_files import FILES, FashionMnist, array_from_idx
from pipeline.errors import DataMissing, DataRefused


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def small_files(folder: Path, *, packed: bool = True) -> None:
    """200 training and 40 test pictures; every picture's pixels are its place in the file."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, start in ((200, "train"), (40, "t10k")):
        pictures = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 28, 28))
        contents = {"images-idx3": idx(pictures), "labels-idx1": idx((np.arange(n) % 10).astype(np.uint8))}
        for kind, content in contents.items():
            name = f"{start}-{kind}-ubyte"
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [True, False])
def test_200_pictures_are_dealt_into_150_and_50_packed_or_not(tmp_path: Path, packed: bool) -> None:
    small_files(tmp_path / "below" / "raw", packed=packed)
    data = FashionMnist(validation=50)(tmp_path, cache=tmp_path)
    assert [len(split) for split in data.splits] == [150, 50, 40]
    assert np.bincount(data.validation.labels).tolist() == [5] * 10
    assert (data.train.inputs[:, 0, 0, 0] == data.train.indices).all()
    assert data.test.indices[0] == 200  # the test's places follow those of the training file


def test_a_file_cut_by_1_byte_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(idx(np.zeros(9, dtype=np.uint8))[:-1])
    with pytest.raises(DataRefused, match=r"train-labels-idx1-ubyte: its header announces 9 bytes, and 8 follow"):
        array_from_idx(path)


def test_half_of_a_packed_file_and_a_file_of_text_are_refused(tmp_path: Path) -> None:
    half, text = tmp_path / "half.gz", tmp_path / "text"
    half.write_bytes(gzip.compress(idx(np.arange(99, dtype=np.uint8)))[:60])
    text.write_text("404: Not Found")
    for path in (half, text):
        with pytest.raises(DataRefused, match=path.name):
            array_from_idx(path)


def test_199_labels_for_200_pictures_are_refused(tmp_path: Path) -> None:
    small_files(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(199, dtype=np.uint8))))
    with pytest.raises(DataRefused, match="200 pictures"):
        FashionMnist(validation=50)(tmp_path, cache=tmp_path)


def test_with_a_folder_nothing_is_downloaded_and_the_1_missing_file_is_named(tmp_path: Path) -> None:
    small_files(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    source = FashionMnist(locations=(f"{tmp_path.as_uri()}/",))
    with pytest.raises(DataMissing, match=r"missing t10k-labels-idx1-ubyte\.gz or t10k-labels-idx1-ubyte;"):
        source(tmp_path, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_download_that_is_not_the_official_file_is_not_kept(tmp_path: Path) -> None:
    small_files(tmp_path / "server")
    source = FashionMnist(locations=((tmp_path / "server").as_uri() + "/", (tmp_path / "none").as_uri() + "/"))
    with pytest.raises(DataMissing, match=r"not the official file.*put the four files") as refusal:
        source(None, cache=tmp_path / "cache")
    assert all(name in str(refusal.value) for name in FILES)
    assert not list((tmp_path / "cache").rglob("*.gz"))


@pytest.fixture(scope="module")
def official(data_folder: Path) -> Path:
    folder = data_folder / "fashion-mnist"
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        pytest.skip(f"missing in {folder}: {', '.join(missing)}")
    return folder


def test_the_official_files_are_fetched_once_and_found_again(official: Path, tmp_path: Path) -> None:
    first = FashionMnist(locations=(f"{official.as_uri()}/",))(None, cache=tmp_path)
    again = FashionMnist(locations=())(None, cache=tmp_path)
    assert [len(split) for split in first.splits] == [55000, 5000, 10000]
    assert (again.train.indices == first.train.indices).all()
    pixels = np.concatenate([first.train.inputs, first.validation.inputs])
    # the settings are the measured ones to 4 places
    assert abs(pixels.mean() / 255 - 0.2860) < 1e-4
    assert abs(pixels.std() / 255 - 0.3530) < 1e-4
    assert np.bincount(first.validation.labels).tolist() == [500] * 10
