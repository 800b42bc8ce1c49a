"""What a data set is: three splits of inputs and labels, and how an input becomes what the network sees.

A data set stays in the smallest form it has (uint8 pixels, possibly a memory map on the disk) and becomes float32 batch
by batch, in `inputs_for_network`.

An *index* is the place of an input in its source, counted over all the source's files, so that no two inputs of a data
set share one: where the test pictures come in a file of their own, their indices follow those of the training file.

Letters: N inputs of a split, K classes.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.data.preprocess import Preprocess, network_input
from pipeline.errors import DataRefused

VALUES_AT_ONCE = 1 << 21  # 13 pictures of 224×224: MobileNetV2 widens each to eight times as many values, twice
PIECE_BYTES = 1 << 24  # how much of a memory map is looked at in one go: 16 MiB


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set; inputs, labels and indices run in step.

    inputs: uint8 or float32 (N, …) · labels: int64 (N,), 0 … K−1; where there are no classes, floats (N, …) that the
    metric knows · indices: int64 (N,), the place in the source
    """

    name: str
    inputs: np.ndarray
    labels: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs to learn from, to choose by and to be judged on.

    labels: the name of each class; empty where the answers name none · preprocess: from pixels to the network's input;
    None where inputs are float32 already · skipped: what the source left out, a line each
    """

    name: str
    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...]
    preprocess: Preprocess | None = None
    skipped: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """The three splits, in the order train, validation, test."""
        return (self.train, self.validation, self.test)

    @property
    def classes(self) -> int:
        """How many classes there are: K."""
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""
        return tuple(self.train.inputs.shape[1:])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over inputs, labels, indices, class names and preprocessing; computed once, piece by piece."""
        digest = hashlib.sha256()
        preprocess = None if self.preprocess is None else self.preprocess.as_json()
        digest.update(json.dumps([self.labels, preprocess], sort_keys=True).encode())
        for split in self.splits:
            for array in (split.inputs, split.labels, split.indices):
                digest.update(f"{split.name} {array.dtype.str} {array.shape}".encode())
                for _, piece in pieces(array):
                    digest.update(np.ascontiguousarray(piece).data)
        return digest.hexdigest()


class DataSource(Protocol):
    """Where a data set comes from: a frozen dataclass whose settings are JSON data."""

    def __call__(self, folder: Path | None, *, cache: Path) -> Dataset:
        """Read the data set below `folder`; what is worth keeping between runs goes below `cache`."""
        ...


def pieces(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """`array` in pieces of about 16 MiB along its first axis, each with the place of its first row."""
    row_bytes = max(1, array.nbytes // max(1, len(array)))
    rows = max(1, PIECE_BYTES // row_bytes)
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


def inputs_for_network(dataset: Dataset, inputs: np.ndarray) -> np.ndarray:
    """The float32 inputs that the network takes for `inputs` of one of the splits."""
    if dataset.preprocess is None:
        return np.ascontiguousarray(inputs, dtype=np.float32)
    return network_input(dataset.preprocess, inputs)


def checked(dataset: Dataset) -> Dataset:
    """`dataset` itself, or DataRefused with the first thing in it that no run can use."""
    if dataset.classes == 1:
        raise DataRefused(f"{dataset.name}: there is one class only ({', '.join(dataset.labels)}); two are needed.")
    for split in dataset.splits:
        where = f"{dataset.name}, split '{split.name}'"
        _check_lengths(split, where=where)
        _check_labels(split, dataset.labels, where=where)
        _check_inputs(split, dataset, where=where)
    for split in (dataset.train, dataset.test) if dataset.labels else ():
        _check_more_than_one_class(split, dataset)
    _check_disjoint(dataset)
    return dataset


def _check_lengths(split: Split, *, where: str) -> None:
    if not len(split.inputs) == len(split.labels) == len(split.indices):
        raise DataRefused(
            f"{where}: {len(split.inputs)} inputs, {len(split.labels)} labels and {len(split.indices)} indices. "
            "Every input needs one of each."
        )
    if len(split.inputs) == 0:
        raise DataRefused(f"{where}: there is no input in it. Give it at least one per class.")


def _check_labels(split: Split, labels: tuple[str, ...], *, where: str) -> None:
    if not labels:
        if split.labels.dtype.kind != "f" or not np.isfinite(split.labels).all():
            raise DataRefused(f"{where}: there are no names of classes, so that its labels must be finite floats.")
        return
    if split.labels.ndim != 1 or not np.issubdtype(split.labels.dtype, np.integer):
        raise DataRefused(
            f"{where}: labels are {split.labels.dtype} of shape {split.labels.shape}; they must be whole numbers, "
            "one for each input."
        )
    wrong = np.flatnonzero((split.labels < 0) | (split.labels >= len(labels)))
    if len(wrong):
        first = wrong[0]
        raise DataRefused(
            f"{where}, index {split.indices[first]}: label {split.labels[first]} is outside 0 … {len(labels) - 1} "
            f"({len(wrong)} such labels in all). Repair the labels, or name all {split.labels.max() + 1} classes."
        )


def _check_inputs(split: Split, dataset: Dataset, *, where: str) -> None:
    inputs = split.inputs
    if inputs.shape[1:] != dataset.input_shape:
        raise DataRefused(
            f"{where}: one input has shape {inputs.shape[1:]}, in split 'train' {dataset.input_shape}. "
            "All splits need the same shape."
        )
    if inputs.dtype not in (np.uint8, np.float32):
        raise DataRefused(f"{where}: inputs are {inputs.dtype}; give uint8 pixels or float32.")
    if inputs.dtype == np.uint8:
        return
    if dataset.preprocess is not None:
        raise DataRefused(
            f"{where}: inputs are float32, and preprocessing is for uint8 pixels. Give pixels, or leave preprocess out."
        )
    for start, piece in pieces(inputs):
        wrong = np.flatnonzero(~np.isfinite(piece).reshape(len(piece), -1).all(axis=1))
        if len(wrong):
            raise DataRefused(
                f"{where}, index {split.indices[start + wrong[0]]}: the input contains NaN or infinity. "
                "Repair it, or leave it out."
            )


def _check_more_than_one_class(split: Split, dataset: Dataset) -> None:
    if split.labels.min() == split.labels.max():
        raise DataRefused(
            f"{dataset.name}, split '{split.name}': all {len(split)} inputs have the label "
            f"'{dataset.labels[split.labels[0]]}'. Nothing can be learned or judged from one class; give at least two."
        )


def _check_disjoint(dataset: Dataset) -> None:
    seen: dict[str, np.ndarray] = {}
    for split in dataset.splits:
        distinct = np.unique(split.indices)
        for other, indices in seen.items():
            shared = np.intersect1d(indices, distinct, assume_unique=True)
            if len(shared):
                raise DataRefused(
                    f"{dataset.name}: splits '{other}' and '{split.name}' share {len(shared)} inputs, the first at "
                    f"index {shared[0]}. What is judged on must not be learned from: take them out of one of the two."
                )
        seen[split.name] = distinct


def split_indices(labels: np.ndarray, *, sizes: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, ...]:
    """Places 0 … N−1 dealt into parts of `sizes`, each class in every part by its share; the same seed, the same parts.

    The inputs of a class are shuffled and spread evenly over the stretch from 0 to 1; the parts are consecutive pieces
    of the stretch. So a part of n inputs has n · (share of the class) of each class, give or take one or two. Within a
    part the places ascend.
    """
    if min(sizes) < 0 or sum(sizes) > len(labels):
        raise DataRefused(
            f"parts of {', '.join(map(str, sizes))} inputs were asked for, and there are {len(labels)}. "
            "Ask for smaller parts."
        )
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(labels))
    stretch = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        stretch[members] = (np.arange(len(members)) + 0.5) / len(members)
    order = shuffled[np.argsort(stretch[shuffled], kind="stable")]  # equal places keep the shuffled order
    ends = np.cumsum(sizes)
    return tuple(np.sort(order[end - size : end]) for size, end in zip(sizes, ends, strict=True))


def sizes_from_fractions(n: int, *, fractions: tuple[float, ...]) -> tuple[int, ...]:
    """`n` inputs in parts of the given fractions, rounded so that nothing is lost when the fractions add up to 1."""
    if min(fractions) < 0 or sum(fractions) > 1 + 1e-9:  # 1e-9: 0.7 + 0.1 + 0.2 in floating point
        raise DataRefused(f"the fractions {fractions} must not be negative nor add up to more than 1.")
    ends = [round(n * total) for total in np.cumsum(fractions)]
    return tuple(end - start for start, end in zip([0, *ends[:-1]], ends, strict=True))


def rows_at_once(shape: tuple[int, ...], *, most: int) -> int:
    """How many inputs of a shape a network answers at once: fewer of large ones, whose activations take gigabytes.

    >>> rows_at_once((3, 32, 32), most=256), rows_at_once((3, 224, 224), most=256)
    (256, 13)
    """
    return max(1, min(most, VALUES_AT_ONCE // max(1, math.prod(shape))))
