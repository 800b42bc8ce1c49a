"""Inputs without labels for a network that comes as an ONNX file: pictures in a folder, or arrays.

Each input is labelled with the class that the FP32 network names, so "accuracy" is the share of inputs on which a
later network says what the FP32 one said, and the FP32 network itself has all of them right. Where its answers name no
class, each input is labelled with the answer itself, and later networks are judged by their fidelity (fidelity.py).
Pictures may lie in any folders below; files that are none are reported. `.npy` files hold inputs as the network takes
them, (N, …) or one (…): words as their numbers, (N, T).

A tenth of the inputs stands in the training split, half in validation (the ranges are read there), the rest in test.
"""

import hashlib
import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.dataset import Dataset, Split, checked, inputs_for_network, sizes_from_fractions, split_indices
from pipeline.data.decoded_pictures import decoded_pixels
from pipeline.data.fidelity import Fidelity
from pipeline.data.onnx_door import MOST, Taken, taken_by
from pipeline.data.preprocess import Preprocess
from pipeline.errors import DataMissing, DataRefused
from targets.engines.ort import open_onnx

FRACTIONS = (0.1, 0.5, 0.4)
FEWEST = 20  # below, neither the ranges nor the agreement mean anything
ASKED_AT_ONCE = 64
PIXELS_MAX = 89_478_485
SHORT_OVER_CROP = 256 / 224  # how published networks are evaluated


@dataclass(frozen=True)
class Unlabelled:
    """The inputs below the folder that is given.

    model: the ONNX file whose answers are the labels · mean, std: of the pictures, one each per channel
    fidelity: how answers are judged that name no class; None for scores per class
    """

    model: str
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    seed: int = 0
    fidelity: Fidelity | None = None

    def __call__(self, folder: Path | None, *, cache: Path) -> Dataset:
        """Read all inputs and ask the network about each."""
        if folder is None:
            raise DataMissing("no folder of inputs was given. Name one with --data: pictures, or .npy files.")
        taken = taken_by(Path(self.model))
        files = _files_below(folder)
        arrays = [path for path in files if path.suffix == ".npy"]
        preprocess, skipped = None, []
        if arrays:
            inputs = np.concatenate([_array(path, taken) for path in arrays])
            skipped = [f"{path.relative_to(folder)}: not a .npy file" for path in files if path.suffix != ".npy"]
        else:
            preprocess = self._preprocess(taken)
            decoded = decoded_pixels(
                files, changed=[_identity(path, folder) for path in files], preprocess=preprocess, cache=cache,
                pixels_max=PIXELS_MAX,
            )  # fmt: skip
            inputs = decoded.pixels
            skipped = [line.removeprefix(f"{folder.as_posix()}/") for line in decoded.failed]
        inputs, places = _without_copies(inputs)
        if len(inputs) < FEWEST:
            passed_over = f" {len(skipped)} files were passed over, the first: {skipped[0]}." if skipped else ""
            raise DataRefused(
                f"{folder}: {len(inputs)} different inputs can be read, and at least {FEWEST} are needed to set the "
                f"ranges and to check the answers; a hundred are better.{passed_over}"
            )
        answers = self._answers(inputs, preprocess)
        labels: np.ndarray = answers.argmax(1).astype(np.int64) if self.fidelity is None else np.zeros(len(inputs))
        parts = split_indices(labels, sizes=sizes_from_fractions(len(labels), fractions=FRACTIONS), seed=self.seed)
        names = tuple(str(number) for number in range(answers.shape[1]))
        if self.fidelity is not None:
            labels, names = self.fidelity.labels_from(answers), ()
        train, validation, test = (
            Split(name, np.ascontiguousarray(inputs[part]), labels[part], places[part])
            for name, part in zip(("train", "validation", "test"), parts, strict=True)
        )
        return checked(Dataset(folder.resolve().name, train, validation, test, names, preprocess, tuple(skipped)))

    def _preprocess(self, taken: Taken) -> Preprocess:
        shape = taken.shape
        if taken.whole:
            raise DataRefused(
                f"{self.model} takes whole numbers of shape {shape}, which no pictures are. "
                "Put its inputs into --data as .npy files of int64."
            )
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise DataRefused(
                f"{self.model} takes inputs of shape {shape}, which are no pictures (1 or 3 channels, height, width). "
                "Put its inputs into --data as .npy files."
            )
        channels, height, width = shape
        mean, std = self.mean[:channels], self.std[:channels]
        short = round(max(height, width) * SHORT_OVER_CROP)
        return Preprocess(channels=channels, height=height, width=width, mean=mean, std=std, resize_short=short)

    def _answers(self, inputs: np.ndarray, preprocess: Preprocess | None) -> np.ndarray:
        """What the network answers to each input, (N, …)."""
        empty = Split("", inputs, np.zeros(len(inputs), np.int64), np.arange(len(inputs)))
        bare = Dataset("", empty, empty, empty, labels=(), preprocess=preprocess)
        parts = []
        with closing(open_onnx(Path(self.model), threads=1)) as runner:
            for start in range(0, len(inputs), ASKED_AT_ONCE):
                parts.append(runner(inputs_for_network(bare, inputs[start : start + ASKED_AT_ONCE])))
        answers = np.concatenate(parts)
        if not np.isfinite(answers).all():
            raise DataRefused(f"{self.model} answers with NaN or infinity on these inputs. Check --mean and --std.")
        return answers


def _files_below(folder: Path) -> list[Path]:
    found = []
    for directory, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found += [Path(directory, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.is_file() and path.suffix.lower() not in (".csv", ".txt", ".json"))


def _identity(path: Path, folder: Path) -> tuple[str, int, int]:
    about = path.stat()
    return path.relative_to(folder).as_posix(), about.st_size, about.st_mtime_ns


def _array(path: Path, taken: Taken) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataRefused(f"{path} cannot be read as a plain array ({error}). Save it with numpy.save.") from error
    if array.shape == taken.shape:
        array = array[None]
    if array.shape[1:] != taken.shape or array.dtype.kind not in "fiu":
        wanted = ", ".join(map(str, taken.shape))
        raise DataRefused(
            f"{path} holds {array.dtype} of shape {array.shape}; the network takes (N, {wanted}). Save the array "
            f"with its axes in that order, of that size, as {'int64' if taken.whole else 'float32'}."
        )
    finite = np.isfinite(array).all(tuple(range(1, array.ndim)))  # (N,)
    if not finite.all():
        raise DataRefused(f"{path} holds NaN or infinity, first in row {int(finite.argmin())}. Leave that input out.")
    if taken.whole:
        _check_whole(array, path, below=taken.below)
    return np.ascontiguousarray(array, dtype=np.float32)


def _check_whole(array: np.ndarray, path: Path, *, below: int | None) -> None:
    """Refuse what is no whole number, and what is the place of no row in the table that is read with it."""
    rows = array.reshape(len(array), -1)
    broken = rows != np.rint(rows)
    if broken.any():
        row, place = np.argwhere(broken)[0]
        raise DataRefused(
            f"{path} holds {rows[row, place]:.6g} in row {row}; the network takes whole numbers. Save the numbers of "
            "the words, as int64."
        )
    first, last = (-MOST, MOST) if below is None else (0, below - 1)
    outside = (rows < first) | (rows > last)
    if outside.any():
        row, place = np.argwhere(outside)[0]
        raise DataRefused(
            f"{path} holds {int(rows[row, place])} in row {row}; the network takes {first} to {last}. Use the list of "
            "words that it was trained with."
        )


def _without_copies(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inputs without repeated ones, so that no test input was calibrated on; and their places."""
    first: dict[bytes, int] = {}
    for place, row in enumerate(inputs):
        first.setdefault(hashlib.sha256(np.ascontiguousarray(row).data).digest(), place)
    places = np.array(sorted(first.values()), dtype=np.int64)
    return (inputs if len(places) == len(inputs) else inputs[places]), places
