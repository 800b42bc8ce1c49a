"""Find the files of a data set by their names, wherever below the user's folder they lie."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import DataMissing

DEPTH = 4  # folder/a/b/c/d is looked into, deeper folders are not


def find_file(names: Sequence[str], folder: Path | None, *, what: str) -> Path:
    """The first file below `folder` that has one of `names`; a shallower place is preferred, then an earlier name."""
    return find_all([names], folder, what=what)[0]


def find_all(wanted: Sequence[Sequence[str]], folder: Path | None, *, what: str) -> list[Path]:
    """One file for each entry of `wanted`, where an entry lists the names it may have.

    A single directory that holds all of them is preferred, so that two data sets with equal file names do not mix.
    """
    if folder is None:
        raise DataMissing(f"{what}: no folder was given, and {_listed(wanted)} must lie in one. Name it with --data.")
    if not folder.is_dir():
        raise DataMissing(f"{what}: there is no folder {folder}. Name the one with {_listed(wanted)}.")
    listings = [(directory, frozenset(files)) for directory, files in directories(folder)]
    for directory, files in listings:
        chosen = [_first(names, files) for names in wanted]
        if all(chosen):
            return [directory / name for name in chosen if name]
    found = [_anywhere(names, listings) for names in wanted]
    missing = [names for names, path in zip(wanted, found, strict=True) if path is None]
    if missing:
        raise DataMissing(
            f"{what}: missing {_listed(missing)}; looked into {folder} and {len(listings) - 1} folders below it, "
            f"{DEPTH} deep. Put what is missing there."
        )
    return [path for path in found if path is not None]


def directories(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """`folder` and those below it with their files, shallow ones first, each depth by name; hidden ones left out."""
    level = [folder]
    for depth in range(DEPTH + 1):
        below: list[Path] = []
        for directory in level:
            with os.scandir(directory) as listing:
                entries = sorted((e for e in listing if not e.name.startswith(".")), key=lambda e: e.name)
            yield directory, [entry.name for entry in entries if entry.is_file()]
            if depth < DEPTH:
                below += [Path(entry.path) for entry in entries if entry.is_dir() and os.access(entry.path, os.R_OK)]
        level = below


def _first(names: Sequence[str], files: frozenset[str]) -> str | None:
    return next((name for name in names if name in files), None)


def _anywhere(names: Sequence[str], listings: Sequence[tuple[Path, frozenset[str]]]) -> Path | None:
    return next((directory / name for name in names for directory, files in listings if name in files), None)


def _listed(wanted: Sequence[Sequence[str]]) -> str:
    return ", ".join(" or ".join(names) for names in wanted)
