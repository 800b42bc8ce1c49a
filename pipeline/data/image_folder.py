"""A folder of pictures, one folder for each class: `flowers/daisy/1.jpg`, `flowers/rose/2.png`, …

The names of the folders, sorted, are the classes. Where `train/` and `test/` (or `val/`) stand above the classes they
are the parts; else the pictures are dealt into parts, each class by its share:

    train, val, test    as they are                train, test    validation is taken out of train
    train, val          val is the test, and validation is taken out of train

Pictures with the same bytes never stand in two parts, so that the test holds no picture that was learned: dealt, they
go together; in given parts the copy is left out of the earlier part (train, then validation) and reported.

The pictures are decoded once (decoded_pictures.py), and every run reads the pixels from the cache. An index is the
place in the sorted list of all files.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.class_folders import PARTS, Picture, copies_among, listed
from pipeline.data.dataset import Dataset, Split, checked, sizes_from_fractions, split_indices
from pipeline.data.decoded_pictures import Decoded, decoded_pixels
from pipeline.data.find_files import directories
from pipeline.data.preprocess import Preprocess
from pipeline.errors import DataMissing, DataRefused


@dataclass(frozen=True)
class ImageFolder:
    """Pictures of `size` (height, width), cut from the middle after the short side was brought to `resize_short`.

    folder_name: the folder to look for below the one that is given; None takes that one itself · fractions: of train,
    validation and test, where they are not given as folders · mean, std: default to ImageNet's; one grey value each
    when channels = 1
    """

    size: tuple[int, int] = (224, 224)
    resize_short: int | None = 256
    channels: int = 3
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    seed: int = 0
    folder_name: str | None = None
    pixels_max: int = 89_478_485  # Pillow's own limit; a larger picture is left out before it is decoded

    def __post_init__(self) -> None:
        _ = self.preprocess  # refuses settings that do not fit when the recipe is written

    @property
    def preprocess(self) -> Preprocess:
        """From a picture to the network's input."""
        return Preprocess(
            channels=self.channels, height=self.size[0], width=self.size[1], resize_short=self.resize_short,
            mean=self.mean, std=self.std,
        )  # fmt: skip

    def __call__(self, folder: Path | None, *, cache: Path) -> Dataset:
        """List the pictures below `folder`, decode them into `cache` unless they are there already, and deal them."""
        root = self._root(folder)
        classes, pictures, left_out = listed(root)
        copies = copies_among(pictures, root=root, cache=cache)
        chosen, repeated = self._parts(pictures, copies)
        order = [place for places in chosen.values() for place in places]
        decoded = decoded_pixels(
            [root / pictures[place].path for place in order],
            changed=[(pictures[p].path, pictures[p].size_bytes, pictures[p].changed_ns) for p in order],
            preprocess=self.preprocess,
            cache=cache,
            pixels_max=self.pixels_max,
        )
        labels = np.array([picture.label for picture in pictures], dtype=np.int64)
        train, validation, test = _splits(chosen, decoded, labels)
        _check_every_class_learned(train, classes, root)
        return checked(
            Dataset(
                root.name,
                train,
                validation,
                test,
                labels=classes,
                preprocess=self.preprocess,
                skipped=(*left_out, *repeated, *_relative(decoded.failed, root)),
            )
        )

    def _root(self, folder: Path | None) -> Path:
        if folder is None:
            raise DataMissing("no folder of pictures was given. Name one with --data; it holds one folder per class.")
        if not folder.is_dir():
            raise DataMissing(f"there is no folder {folder}. Name one that holds one folder of pictures per class.")
        if self.folder_name is None:
            return folder
        for directory, _ in directories(folder):
            if directory.name == self.folder_name:
                return directory
        raise DataMissing(f"there is no folder '{self.folder_name}' below {folder}. Put the pictures there.")

    def _parts(self, pictures: list[Picture], copies: Mapping[int, int]) -> tuple[dict[str, list[int]], list[str]]:
        """The places of the pictures of each part, and a line for each copy that had to be left out."""
        given = {picture.part for picture in pictures}
        labels = np.array([picture.label for picture in pictures])
        if given == {None}:
            return self._dealt(list(range(len(pictures))), labels, copies, fractions=self.fractions), []
        chosen, repeated = _without_copies(pictures, copies)
        if not chosen["test"]:
            chosen["test"], chosen["validation"] = chosen["validation"], []
        if not chosen["validation"]:
            train, validation, _ = self.fractions
            shares = (train / (train + validation), validation / (train + validation))
            chosen |= self._dealt(chosen["train"], labels, copies, fractions=shares)
        return chosen, repeated

    def _dealt(
        self, places: list[int], labels: np.ndarray, copies: Mapping[int, int], *, fractions: tuple[float, ...]
    ) -> dict[str, list[int]]:
        """`places` in parts; a copy follows its original."""
        originals = np.array([place for place in places if copies.get(place, place) == place], dtype=np.int64)
        sizes = sizes_from_fractions(len(originals), fractions=fractions)
        parts = split_indices(labels[originals], sizes=sizes, seed=self.seed)
        part_of = {int(originals[i]): name for name, part in zip(PARTS, parts, strict=False) for i in part}
        dealt: dict[str, list[int]] = {name: [] for name, _ in zip(PARTS, parts, strict=False)}
        for place in places:
            name = part_of.get(copies.get(place, place))
            if name is not None:
                dealt[name].append(place)
        return dealt


def _without_copies(pictures: list[Picture], copies: Mapping[int, int]) -> tuple[dict[str, list[int]], list[str]]:
    """The parts as given, from the last to the first, without a picture that a later part holds."""
    chosen: dict[str, list[int]] = {name: [] for name in PARTS}
    repeated = []
    taken: dict[int, int] = {}
    for part in reversed(PARTS):
        for place, picture in enumerate(pictures):
            original = copies.get(place, place)
            if picture.part != part:
                continue
            if original in taken and pictures[taken[original]].part != part:
                repeated.append(f"{picture.path}: the same picture as {pictures[taken[original]].path}")
                continue
            taken.setdefault(original, place)
            chosen[part].append(place)
    return chosen, sorted(repeated)


def _splits(chosen: Mapping[str, list[int]], decoded: Decoded, labels: np.ndarray) -> list[Split]:
    """Consecutive stretches of the decoded pixels, one for each part; pictures that failed are in none."""
    splits = []
    start, row = 0, 0
    for name, places in chosen.items():
        readable = decoded.readable[start : start + len(places)]
        kept = np.array(places, dtype=np.int64)[readable]
        splits.append(Split(name, decoded.pixels[row : row + len(kept)], labels[kept], kept))
        start, row = start + len(places), row + len(kept)
    return splits


def _check_every_class_learned(train: Split, classes: tuple[str, ...], root: Path) -> None:
    without = sorted(set(range(len(classes))) - set(train.labels.tolist()))
    if without:
        names = ", ".join(f"'{classes[label]}'" for label in without)
        raise DataRefused(
            f"{root}: no readable picture of {names} is left to learn from. Add some, or remove the folder."
        )


def _relative(failed: Iterable[str], root: Path) -> list[str]:
    prefix = f"{root.as_posix()}/"
    return [line.removeprefix(prefix) for line in failed]
