"""Photographs with ImageNet labels that are no part of ImageNet: `images.tar` or a folder `images`, and `labels.csv`.

`labels.csv` has a line per photograph: `file` and `class_index` are needed, `class_name` names the class, and the rest
(licence, author, source) says whose it is; keep the file with the photographs. It is the form in which sets of freely
licensed photographs are passed on to check published networks without ImageNet.

Such a set is small, and most of the 1 000 classes have one photograph in it or none. So it is for judging and
calibrating networks that are already trained: half is the test; of the rest most is validation, which ranges are read
from, and a little is left to train on. A class with several photographs has them in both halves. A photograph that
occurs twice counts once.

From an archive come regular files only, and no name that leads outside of it. They are unpacked once into the cache,
under a digest of the archive, and decoded once (decoded_pictures.py). An index is the place in `labels.csv`.

Letters: N photographs, C channels, H height, W width, K classes.
"""

import csv
import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from pipeline.data.dataset import Dataset, Split, checked, sizes_from_fractions, split_indices
from pipeline.data.decoded_pictures import decoded_pixels
from pipeline.data.find_files import DEPTH, directories
from pipeline.data.preprocess import Preprocess
from pipeline.errors import DataMissing, DataRefused, OutRefused

LABELS, ARCHIVE, FOLDER = "labels.csv", "images.tar", "images"
SUFFIXES = (".jpg", ".jpeg")
PIXELS_MAX = 89_478_485  # Pillow's own limit
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Listed:
    """One line of `labels.csv`."""

    file: str
    label: int
    class_name: str


@dataclass(frozen=True)
class Photographs:
    """Photographs of `size` (height, width), cut from the middle after the short side was brought to `resize_short`.

    fractions: of train, validation and test · classes: how many the network tells apart · mean, std: ImageNet's
    """

    size: tuple[int, int] = (224, 224)
    resize_short: int | None = 256
    fractions: tuple[float, float, float] = (0.1, 0.4, 0.5)
    classes: int = 1000
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    seed: int = 0

    def __post_init__(self) -> None:
        _ = self.preprocess  # refuses settings that do not fit when the recipe is written

    @property
    def preprocess(self) -> Preprocess:
        """From a photograph to the network's input."""
        return Preprocess(
            channels=3, height=self.size[0], width=self.size[1], resize_short=self.resize_short,
            mean=self.mean, std=self.std,
        )  # fmt: skip

    def __call__(self, folder: Path | None, *, cache: Path) -> Dataset:
        """Find the photographs below `folder`, decode them into `cache` unless they are there, and deal them."""
        home = _home(folder)
        listed = _listed(home / LABELS, classes=self.classes)
        root, digest = _root(home, cache=cache)
        paths = [root / each.file for each in listed]
        _check_present(paths, listed, home)
        decoded = decoded_pixels(
            paths,
            changed=[_identity(path, each, digest) for path, each in zip(paths, listed, strict=True)],
            preprocess=self.preprocess,
            cache=cache,
            pixels_max=PIXELS_MAX,
        )
        rows, copies = _without_copies(decoded.pixels)
        places = np.flatnonzero(decoded.readable)  # of each row, its line in labels.csv
        labels = np.array([listed[place].label for place in places], dtype=np.int64)  # (N,)
        if len(rows) == 0:
            raise DataRefused(f"{home}: none of {len(listed)} photographs can be read. Fetch them again.")
        sizes = sizes_from_fractions(len(rows), fractions=self.fractions)
        train, validation, test = (
            Split(name, np.ascontiguousarray(decoded.pixels[rows[part]]), labels[rows[part]], places[rows[part]])
            for name, part in zip(
                ("train", "validation", "test"), split_indices(labels[rows], sizes=sizes, seed=self.seed), strict=True
            )
        )
        names = {each.label: each.class_name for each in reversed(listed) if each.class_name}
        repeated = (
            f"{listed[places[row]].file}: the same photograph as {listed[places[first]].file}" for row, first in copies
        )
        return checked(
            Dataset(
                home.resolve().name, train, validation, test,
                labels=tuple(names.get(label, str(label)) for label in range(self.classes)),
                preprocess=self.preprocess,
                skipped=(
                    *_unlisted(root, {each.file for each in listed}),
                    *repeated,
                    *(line.removeprefix(f"{root.as_posix()}/") for line in decoded.failed),
                ),
            )
        )  # fmt: skip


def _home(folder: Path | None) -> Path:
    """The directory that holds the labels and the photographs."""
    wanted = f"{LABELS}, with {ARCHIVE} or a folder '{FOLDER}' beside it"
    if folder is None:
        raise DataMissing(f"no folder of photographs was given. Name one with --data; it holds {wanted}.")
    if not folder.is_dir():
        raise DataMissing(f"there is no folder {folder}. Name one that holds {wanted}.")
    for directory, files in directories(folder):
        if LABELS in files and (ARCHIVE in files or (directory / FOLDER).is_dir()):
            return directory
    raise DataMissing(f"there is no {wanted} in {folder} nor up to {DEPTH} folders below it. Put them there.")


def _listed(path: Path, *, classes: int) -> list[Listed]:
    """The lines of `labels.csv`; each names a file of its own and a class that exists."""
    listed: dict[str, Listed] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            absent = [name for name in ("file", "class_index") if name not in (reader.fieldnames or ())]
            if absent:
                raise DataRefused(f"{path} has no column {' or '.join(absent)}. Name the columns in its first line.")
            for row in reader:
                each = _line(row, f"{path}, line {reader.line_num}", classes=classes)
                if each.file in listed:
                    raise DataRefused(f"{path}, line {reader.line_num}: '{each.file}' stands there twice. Remove one.")
                listed[each.file] = each
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataRefused(f"{path} cannot be read as a table in UTF-8 ({error}). Fetch it again.") from error
    if not listed:
        raise DataRefused(f"{path} names no photograph. Fetch it again.")
    return list(listed.values())


def _line(row: dict[str, str], where: str, *, classes: int) -> Listed:
    file, number = row["file"] or "", (row["class_index"] or "").strip()
    if not file or _leads_outside(file):
        raise DataRefused(f"{where}: '{file}' is no name of a file among the photographs. Repair the line.")
    if not number.isdecimal() or int(number) >= classes:
        raise DataRefused(f"{where}: the class_index '{number}' is no number from 0 to {classes - 1}. Repair the line.")
    return Listed(file, int(number), (row.get("class_name") or "").strip())


def _leads_outside(name: str) -> bool:
    path = PureWindowsPath(name)  # knows the separators and roots of both worlds
    return bool(path.anchor) or ".." in path.parts or "\0" in name


def _root(home: Path, *, cache: Path) -> tuple[Path, str | None]:
    """Where the photographs lie as files, and the digest of the archive they come from, if they do."""
    archive = home / ARCHIVE
    if not archive.is_file():
        return home / FOLDER, None
    digest = _digest(archive)
    unpacked = cache / "photographs" / digest
    if not unpacked.is_dir():
        try:
            _unpack(archive, unpacked)
        except OSError as error:
            raise OutRefused(
                f"the photographs cannot be unpacked below {cache} ({error}). Free some space, or choose another "
                "folder with --out."
            ) from error
    inner = unpacked / FOLDER  # an archive of the folder itself
    return (inner if inner.is_dir() else unpacked), digest


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise DataRefused(f"{path} cannot be read ({error.strerror}).") from error
    return digest.hexdigest()[:32]


def _unpack(archive: Path, into: Path) -> None:
    """All of the archive or nothing: written beside and renamed."""
    into.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=into.parent, prefix=f".{into.name}-"))
    try:
        for name, content in _members(archive):
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        beside.chmod(0o755)
        try:
            beside.rename(into)
        except OSError:
            if not into.is_dir():  # another run may have been faster: then its work is as good
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each photograph in the archive; links, devices and other files are passed over."""
    seen: set[str] = set()
    try:
        with tarfile.open(archive, "r:") as file:  # not compressed, so nothing grows on the way out
            for member in file:
                if _leads_outside(member.name):
                    raise DataRefused(
                        f"{archive}: the name '{member.name}' in it leads outside. Do not trust this archive; make a "
                        "new one."
                    )
                # A sparse file may claim any size and hold nothing.
                if not member.isreg() or member.issparse() or not member.name.lower().endswith(SUFFIXES):
                    continue
                if member.name in seen:
                    raise DataRefused(f"{archive}: '{member.name}' stands in it twice. Make a new archive.")
                seen.add(member.name)
                content = file.extractfile(member)
                assert content is not None  # a regular file has content
                yield member.name, content.read()
    except (OSError, tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise DataRefused(
            f"{archive} is no plain tar archive, or is cut short ({error}). Fetch it again, or unpack it yourself into "
            f"a folder '{FOLDER}' beside {LABELS}."
        ) from error


def _check_present(paths: list[Path], listed: list[Listed], home: Path) -> None:
    absent = [each.file for path, each in zip(paths, listed, strict=True) if not _is_file(path)]
    if absent:
        some = ", ".join(absent[:SHOWN]) + (", …" if len(absent) > SHOWN else "")
        raise DataMissing(
            f"{home}: {len(absent)} of {len(listed)} photographs that {LABELS} names are missing ({some}). Fetch them "
            "again, or take their lines out."
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the disk allows
        return False


def _identity(path: Path, each: Listed, digest: str | None) -> tuple[str, int, int]:
    """What changes when the photograph does."""
    about = path.stat()
    if digest is not None:  # unpacked files carry the time of unpacking
        return f"{digest}/{each.file}", about.st_size, 0
    return each.file, about.st_size, about.st_mtime_ns


def _without_copies(pixels: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The rows of `pixels` that are the first of their kind; and of each other row, the one it repeats."""
    first: dict[bytes, int] = {}
    copies = []
    for row, picture in enumerate(pixels):
        original = first.setdefault(hashlib.sha256(np.ascontiguousarray(picture).data).digest(), row)
        if original != row:
            copies.append((row, original))
    return np.array(sorted(first.values()), dtype=np.int64), copies


def _unlisted(root: Path, listed: set[str]) -> list[str]:
    found = (
        Path(directory, name).relative_to(root).as_posix() for directory, _, names in os.walk(root) for name in names
    )
    unlisted = sorted(name for name in found if name not in listed and name.lower().endswith(SUFFIXES))
    return [f"{name}: not in {LABELS}" for name in unlisted]
