"""Which pictures lie in the folders of the classes, which part they were given in, and which are copies of another.

Hidden files and folders are passed over. Every other file below the folder of a class counts as a picture until it has
been read; files beside those folders are reported.
"""

import hashlib
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataRefused, OutRefused

PARTS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}


@dataclass(frozen=True)
class Picture:
    """One file: its path below the folder, its class, and the part it was given in (None: it is to be dealt)."""

    path: str
    label: int
    part: str | None
    size_bytes: int
    changed_ns: int


def listed(root: Path) -> tuple[tuple[str, ...], list[Picture], list[str]]:
    """The classes below `root`, every file in them, and a line for each file that stands outside of a class."""
    top = _folders(root)
    given = {part: root / name for part, names in PARTS.items() for name in names if name in top}
    if "train" not in given or not {"validation", "test"} & set(given):
        given = {}
    classes: tuple[str, ...] | None = None
    pictures: list[Picture] = []
    outside: list[str] = []
    for part, folder in given.items() or [(None, root)]:
        here = _folders(folder)
        if classes is not None and tuple(here) != classes:
            differing = ", ".join(sorted(set(here) ^ set(classes)))
            raise DataRefused(
                f"{folder}: the classes differ from those of the first part ({differing}). Make them equal."
            )
        classes = tuple(here)
        if len(classes) < 2:
            raise DataRefused(
                f"{folder} holds {len(classes)} folders of pictures ({', '.join(classes) or 'none'}). "
                "One folder for each class is needed, and at least two classes."
            )
        outside += [f"{file}: not in the folder of a class" for file in _files_directly_in(folder, root)]
        for label, name in enumerate(classes):
            found = [_picture(path, root, label, part) for path in _files_below(folder / name)]
            if not found:
                raise DataRefused(f"{folder / name}: there is no picture in it. Add some, or remove the folder.")
            pictures += found
    return classes or (), pictures, outside


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files_directly_in(folder: Path, root: Path) -> list[str]:
    return sorted(
        str(entry.relative_to(root)) for entry in folder.iterdir() if entry.is_file() and entry.name[0] != "."
    )


def _files_below(folder: Path) -> list[Path]:
    found = []
    for directory, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found += [Path(directory, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def _picture(path: Path, root: Path, label: int, part: str | None) -> Picture:
    status = path.stat()
    return Picture(path.relative_to(root).as_posix(), label, part, status.st_size, status.st_mtime_ns)


def copies_among(pictures: Sequence[Picture], *, root: Path, cache: Path) -> dict[int, int]:
    """Place of a copy → place of the first picture with the same bytes.

    Files of equal size are read for it, so the answer is kept in `cache` until a file's name, size or time changes.
    """
    names = [(picture.path, picture.size_bytes, picture.changed_ns) for picture in pictures]
    key = hashlib.sha256(json.dumps([str(root), names]).encode()).hexdigest()[:32]
    kept = cache / "pictures" / f"copies-{key}.json"
    if kept.is_file():
        return {int(copy): first for copy, first in json.loads(kept.read_text()).items()}
    copies = _copies(pictures, root)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False) as beside:
            json.dump(copies, beside)
        Path(beside.name).replace(kept)
    except OSError as error:
        raise OutRefused(
            f"{kept} cannot be written ({error}). Free some space, or choose another folder with --out."
        ) from error
    return copies


def _copies(pictures: Sequence[Picture], root: Path) -> dict[int, int]:
    by_size: dict[int, list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        by_size[picture.size_bytes].append(place)
    first_with: dict[bytes, int] = {}
    copies: dict[int, int] = {}
    for places in by_size.values():
        for place in places if len(places) > 1 else ():
            try:
                content = (root / pictures[place].path).read_bytes()
            except OSError:  # it is reported when it is decoded
                continue
            first = first_with.setdefault(hashlib.sha256(content).digest(), place)
            if first != place:
                copies[place] = first
    return copies
