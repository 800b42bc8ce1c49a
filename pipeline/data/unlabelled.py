"""Inputs without labels for a network that comes as an ONNX file: pictures in a folder, or arrays.

Each input is labelled with the class that the FP32 network names, so "accuracy" is the share of inputs on which a
later network says what the FP32 one said, and the FP32 network itself has all of them right. Pictures may lie in any
folders below; files that are none are reported. `.npy` files hold inputs as the network takes them, (N, …) or one (…).

A tenth of the inputs stands in the training split, half in validation (the ranges are read there), the rest in test.
"""

import hashlib
import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from pipeline.data.dataset import Dataset, Split, checked, inputs_for_network, sizes_from_fractions, split_indices
from pipeline.data.decoded_pictures import decoded_pixels
from pipeline.data.preprocess import Preprocess
from pipeline.errors import DataMissing, DataRefused, NetworkRefused
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
    """

    model: str
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    seed: int = 0

    def __call__(self, folder: Path | None, *, cache: Path) -> Dataset:
        """Read all inputs and ask the network about each."""
        if folder is None:
            raise DataMissing("no folder of inputs was given. Name one with --data: pictures, or .npy files.")
        shape = input_shape_of(Path(self.model))
        files = _files_below(folder)
        arrays = [path for path in files if path.suffix == ".npy"]
        preprocess, skipped = None, []
        if arrays:
            inputs = np.concatenate([_array(path, shape) for path in arrays])
            skipped = [f"{path.relative_to(folder)}: not a .npy file" for path in files if path.suffix != ".npy"]
        else:
            preprocess = self._preprocess(shape)
            decoded = decoded_pixels(
                files, changed=[_identity(path, folder) for path in files], preprocess=preprocess, cache=cache,
                pixels_max=PIXELS_MAX,
            )  # fmt: skip
            inputs = decoded.pixels
            skipped = [line.removeprefix(f"{folder.as_posix()}/") for line in decoded.failed]
        inputs, places = _without_copies(inputs)
        if len(inputs) < FEWEST:
            raise DataRefused(
                f"{folder}: {len(inputs)} different inputs can be read, and at least {FEWEST} are needed to set the "
                "ranges and to check the answers; a hundred are better."
            )
        labels, classes = self._labels(inputs, preprocess)
        parts = split_indices(labels, sizes=sizes_from_fractions(len(labels), fractions=FRACTIONS), seed=self.seed)
        train, validation, test = (
            Split(name, np.ascontiguousarray(inputs[part]), labels[part], places[part])
            for name, part in zip(("train", "validation", "test"), parts, strict=True)
        )
        names = tuple(str(number) for number in range(classes))
        return checked(Dataset(folder.resolve().name, train, validation, test, names, preprocess, tuple(skipped)))

    def _preprocess(self, shape: tuple[int, ...]) -> Preprocess:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise DataRefused(
                f"{self.model} takes inputs of shape {shape}, which are no pictures (1 or 3 channels, height, width). "
                "Put its inputs into --data as .npy files."
            )
        channels, height, width = shape
        mean, std = self.mean[:channels], self.std[:channels]
        short = round(max(height, width) * SHORT_OVER_CROP)
        return Preprocess(channels=channels, height=height, width=width, mean=mean, std=std, resize_short=short)

    def _labels(self, inputs: np.ndarray, preprocess: Preprocess | None) -> tuple[np.ndarray, int]:
        """The class that the network names for each input, and how many classes it knows."""
        empty = Split("", inputs, np.zeros(len(inputs), np.int64), np.arange(len(inputs)))
        bare = Dataset("", empty, empty, empty, labels=(), preprocess=preprocess)
        parts = []
        with closing(open_onnx(Path(self.model), threads=1)) as runner:
            for start in range(0, len(inputs), ASKED_AT_ONCE):
                parts.append(runner(inputs_for_network(bare, inputs[start : start + ASKED_AT_ONCE])))
        answers = np.concatenate(parts)
        if answers.ndim != 2 or len(answers) != len(inputs):
            raise NetworkRefused(
                f"{self.model} answers {len(inputs)} inputs with {answers.shape}, which is no score per class. For "
                "other tasks write a recipe with a metric of your own; `compress init` makes one to start from."
            )
        if not np.isfinite(answers).all():
            raise DataRefused(f"{self.model} answers with NaN or infinity on these inputs. Check --mean and --std.")
        return answers.argmax(1).astype(np.int64), answers.shape[1]


def input_shape_of(model: Path) -> tuple[int, ...]:
    """The shape of one input of an ONNX file, without the batch axis.

    Raises:
        DataMissing: there is no such file · NetworkRefused: it is no ONNX file, or has not one input of known shape.
    """
    if not model.is_file():
        raise DataMissing(f"there is no file {model}.")
    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception as error:  # protobuf has an error of its own in each of its implementations
        raise NetworkRefused(f"{model} is no ONNX file, or it is cut short. Export or copy it again.") from error
    constants = {constant.name for constant in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        raise NetworkRefused(f"{model} has {len(inputs)} inputs ({names}); networks with exactly one are supported.")
    lengths = [axis.dim_value for axis in inputs[0].type.tensor_type.shape.dim]
    if len(lengths) < 2 or min(lengths[1:]) < 1:
        raise NetworkRefused(
            f"the input '{inputs[0].name}' of {model} has the shape {lengths} (0: not fixed); all but the batch axis "
            "must be fixed. Export the model with a fixed input size."
        )
    return tuple(lengths[1:])


def _files_below(folder: Path) -> list[Path]:
    found = []
    for directory, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found += [Path(directory, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.is_file() and path.suffix.lower() not in (".csv", ".txt", ".json"))


def _identity(path: Path, folder: Path) -> tuple[str, int, int]:
    about = path.stat()
    return path.relative_to(folder).as_posix(), about.st_size, about.st_mtime_ns


def _array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataRefused(f"{path} cannot be read as a plain array ({error}). Save it with numpy.save.") from error
    if array.shape == shape:
        array = array[None]
    if array.shape[1:] != shape or array.dtype.kind not in "fiu":
        raise DataRefused(f"{path} holds {array.dtype} of shape {array.shape}; the network takes (N, {shape}).")
    return np.ascontiguousarray(array, dtype=np.float32)


def _without_copies(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inputs without repeated ones, so that no test input was calibrated on; and their places."""
    first: dict[bytes, int] = {}
    for place, row in enumerate(inputs):
        first.setdefault(hashlib.sha256(np.ascontiguousarray(row).data).digest(), place)
    places = np.array(sorted(first.values()), dtype=np.int64)
    return (inputs if len(places) == len(inputs) else inputs[places]), places
