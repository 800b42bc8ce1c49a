"""CIFAR-10: colour pictures of 32×32, ten classes; 50 000 to train on and 10 000 to test, or a part of them.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"; https://www.cs.toronto.edu/~kriz/cifar.html.
No licence is stated there, so nothing is downloaded: the user names a folder that holds one of three forms.

- an .npz file with pictures and labels for training and test, in (N, 32, 32, 3) or (N, 3, 32, 32);
- the "python version": pickles, read by an unpickler that builds numpy arrays and refuses everything else;
- the "binary version": 1 byte of label, then 3 072 of pixels, for each picture.
"""

import codecs
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.dataset import Dataset, Split, checked, split_indices
from pipeline.data.find_files import directories, find_all, find_file
from pipeline.data.preprocess import Preprocess
from pipeline.errors import DataMissing, DataRefused

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PYTHON_FILES = (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")
BINARY_FILES = tuple(f"{name}.bin" for name in PYTHON_FILES)
PICTURE_BYTES = 3 * 32 * 32
WHAT = "CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html)"


@dataclass(frozen=True, eq=False)
class Part:
    """Pictures with their labels: uint8 (N, 3, 32, 32) and int64 (N,)."""

    pictures: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Cifar10:
    """The test pictures are the test; `validation` inputs are taken out of the training pictures, class by class.

    mean, std: of ImageNet, because the published CIFAR ResNets were trained with them
    """

    validation: int = 1000
    seed: int = 0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __call__(self, folder: Path | None, *, cache: Path | None = None) -> Dataset:
        """Read whichever form lies below `folder`; the small .npz is preferred. Nothing is kept in `cache`."""
        train, test = parts_below(folder)
        rest = len(train.labels) - self.validation
        learned, chosen_by = split_indices(train.labels, sizes=(rest, self.validation), seed=self.seed)
        return checked(
            Dataset(
                "cifar10",
                _split("train", train, learned, first=0),
                _split("validation", train, chosen_by, first=0),
                _split("test", test, np.arange(len(test.labels)), first=len(train.labels)),
                labels=LABELS,
                preprocess=Preprocess(channels=3, height=32, width=32, mean=self.mean, std=self.std),
            )
        )


def _split(name: str, part: Part, places: np.ndarray, *, first: int) -> Split:
    return Split(name, part.pictures[places], part.labels[places], places.astype(np.int64) + first)


def parts_below(folder: Path | None) -> tuple[Part, Part]:
    """The training and the test pictures below `folder`, in whichever form they are there."""
    if folder is None or not folder.is_dir():
        find_file(["cifar10_small.npz", PYTHON_FILES[0], BINARY_FILES[0]], folder, what=WHAT)
    assert folder is not None  # find_file has refused it
    for path in _npz_files(folder):
        arrays = _arrays(path)
        if arrays is not None:
            return arrays
    present = {name for _, names in directories(folder) for name in names}
    for files, read in ((BINARY_FILES, part_from_binary), (PYTHON_FILES, part_from_pickle)):
        if present & set(files):
            paths = find_all([[name] for name in files], folder, what=WHAT)
            return _joined([read(path) for path in paths[:-1]]), read(paths[-1])
    raise DataMissing(
        f"{WHAT}: below {folder} lies no .npz of it, no {PYTHON_FILES[0]} and no {BINARY_FILES[0]}. Put one of the "
        "three versions there, unpacked."
    )


def _npz_files(folder: Path) -> list[Path]:
    found = [directory / name for directory, names in directories(folder) for name in names if name.endswith(".npz")]
    return sorted(found, key=lambda path: (path.name != "cifar10_small.npz", "cifar" not in path.name.lower()))


def _arrays(path: Path) -> tuple[Part, Part] | None:
    """Both parts from an .npz, or None when it holds something else. Objects in it are never unpickled."""
    names = {
        part: [
            [f"{short}_{part}", f"{part}_{short}", f"{part}_{long}", f"{long}_{part}"]
            for short, long in (("x", "images"), ("y", "labels"))
        ]
        for part in ("train", "test")
    }
    try:
        with np.load(path, allow_pickle=False) as file:
            chosen = [next((n for n in options if n in file), None) for part in names.values() for options in part]
            if None in chosen:
                return None
            found = [np.asarray(file[name]) for name in chosen if name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if "cifar" not in path.name.lower():
            return None  # not ours to judge
        raise DataRefused(f"{path} cannot be read ({error}). It may be cut short: fetch it again.") from error
    if found[0].ndim != 4 and "cifar" not in path.name.lower():
        return None
    return _part(found[0], found[1], path), _part(found[2], found[3], path)


def part_from_binary(path: Path) -> Part:
    """The pictures of one file of the binary version."""
    content = np.fromfile(path, dtype=np.uint8)
    if len(content) == 0 or len(content) % (1 + PICTURE_BYTES):
        raise DataRefused(f"{path} has {len(content)} bytes, which is no multiple of 3 073. Fetch it again.")
    rows = content.reshape(-1, 1 + PICTURE_BYTES)
    return _part(rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0], path)


def part_from_pickle(path: Path) -> Part:
    """The pictures of one file of the python version, read without running anything that the file names."""
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
        pixels, labels = content[b"data"], content[b"labels"]
    except DataRefused as error:
        raise DataRefused(f"{path} {error}") from None
    except (pickle.UnpicklingError, EOFError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataRefused(f"{path} is no CIFAR-10 batch, or is cut short ({error!r}). Fetch it again.") from error
    return _part(np.asarray(pixels).reshape(-1, 3, 32, 32), np.asarray(labels), path)


class _ArraysOnly(pickle.Unpickler):
    """Builds dictionaries, lists, numbers, strings and numpy arrays; any other name in the file is refused.

    A pickle is a program that may call whatever it names. These four names are all that an array needs.
    """

    def find_class(self, module: str, name: str) -> Any:
        reconstruct = np.empty(0).__reduce__()[0]  # it lives in numpy.core or numpy._core, by the version
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): codecs.encode,
        }
        if (module, name) not in allowed:
            raise DataRefused(f"wants to call {module}.{name}, which a CIFAR-10 batch has no need of. Do not trust it.")
        return allowed[module, name]


def _part(pictures: np.ndarray, labels: np.ndarray, path: Path) -> Part:
    if pictures.ndim == 4 and pictures.shape[1:] == (32, 32, 3):
        pictures = pictures.transpose(0, 3, 1, 2)
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (3, 32, 32) or labels.size != len(pictures):
        raise DataRefused(
            f"{path}: pictures are {pictures.dtype} of shape {pictures.shape} with {labels.size} labels; "
            "uint8 of (N, 32, 32, 3) or (N, 3, 32, 32) with N labels were expected."
        )
    return Part(np.ascontiguousarray(pictures), labels.reshape(-1).astype(np.int64))


def _joined(parts: Sequence[Part]) -> Part:
    return Part(np.concatenate([part.pictures for part in parts]), np.concatenate([part.labels for part in parts]))
