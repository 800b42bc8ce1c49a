"""Whether a bundle is whole: file names that stay inside it, and digests of every file.

A manifest comes from somewhere else, so a name in it is not trusted: an absolute path, a step upwards or a link that
leads out of the folder is refused before anything is opened. Digests find damage, not malice: who can change a file
can change the manifest with it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import BundleRefused
from pipeline.store import file_digest

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"  # who vouches for it, where somebody does: `ssh-keygen -Y sign -n edge-compress`
SCHEMA = 1
CACHE = "__pycache__"  # python run.py leaves one behind; it is not part of the bundle
REPAIR = "Copy the bundle again from where it was made, or run `compress` again."


def bundle_at(place: Path) -> Path:
    """The bundle's own folder, given it, its manifest, or the --out folder of a run.

    Raises:
        BundleRefused: there is none.
    """
    if place.name == MANIFEST and place.is_file():
        place = place.parent
    for folder in (place, place / "bundle"):
        if (folder / MANIFEST).is_file():
            return folder
    if not place.exists():
        raise BundleRefused(f"there is no folder {place}. Give the folder that `compress` wrote with --out.")
    raise BundleRefused(f"{place} is no bundle: there is no {MANIFEST} in it, nor in {place / 'bundle'}.")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle, its schema and the shape of what the reader relies on checked.

    Raises:
        BundleRefused: it is no JSON, or not of this schema, or names a file outside the folder.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleRefused(f"{folder / MANIFEST} is damaged: it is no JSON ({error}). {REPAIR}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise BundleRefused(
            f"{folder / MANIFEST} is of schema {found!r}, and this version reads schema {SCHEMA}. "
            "Read it with the edge-compress that wrote it."
        )
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not all(isinstance(digest, str) for digest in listed.values()):
        raise BundleRefused(f"{folder / MANIFEST} lists no files with their digests. {REPAIR}")
    engine = manifest.get("engine")
    if not isinstance(engine, dict) or not isinstance(manifest.get("target"), dict):
        raise BundleRefused(f"{folder / MANIFEST} names no engine or no target. {REPAIR}")
    if not isinstance(engine.get("threads"), int) or engine["threads"] < 1:
        raise BundleRefused(f"{folder / MANIFEST} does not say with how many threads the engine runs. {REPAIR}")
    for name in listed:
        refuse_outside(folder, name)
    wanted = ("model.onnx", "run.py", engine.get("file"), manifest.get("labels"), manifest.get("examples"))
    unlisted = [str(name) for name in wanted if not isinstance(name, str) or name not in listed]
    if unlisted:
        raise BundleRefused(f"{folder / MANIFEST} lists no {', '.join(unlisted)} among its files. {REPAIR}")
    return manifest


def refuse_outside(folder: Path, name: str) -> None:
    """Pass the name of a file in `folder`, and nothing that leads elsewhere.

    Raises:
        BundleRefused: the name is absolute, steps upwards, or is a link that points outside.
    """
    parts = name.split("/")
    if (
        not name
        or "\\" in name
        or "\0" in name
        or Path(name).is_absolute()
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise BundleRefused(
            f"the manifest of {folder} names {name!r}, which is no file inside the bundle. Do not use it."
        )
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise BundleRefused(f"{name} in {folder} is a link that points outside the bundle. Do not use it.")


def files_in(folder: Path) -> list[str]:
    """The names of all files below `folder`, sorted; what Python caches is no part of a bundle."""
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(name.as_posix() for name in found if CACHE not in name.parts)


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by name; the two lists of digests themselves are left out."""
    return {name: file_digest(folder / name) for name in files_in(folder) if name not in (MANIFEST, SUMS, SIGNATURE)}


def sums_text(listed: Mapping[str, str], *, manifest: str) -> str:
    """What `sha256sum -c` reads, the manifest's digest in the last line."""
    lines = [f"{digest}  {name}" for name, digest in sorted(listed.items())]
    return "\n".join([*lines, f"{manifest}  {MANIFEST}"]) + "\n"


def refuse_damaged(folder: Path, manifest: Mapping[str, Any], *, beside: tuple[str, ...] = ()) -> int:
    """Hold every file against its digest; how many there are.

    beside: beginnings of names that may lie there without being listed

    Raises:
        BundleRefused: naming every file that is missing, changed, or there without being listed.
    """
    try:
        return _refuse_damaged(folder, manifest["files"], beside)
    except OSError as error:
        raise BundleRefused(f"the bundle {folder} cannot be read ({error}). {REPAIR}") from error


def _refuse_damaged(folder: Path, listed: Mapping[str, str], beside: tuple[str, ...]) -> int:
    missing = [name for name in listed if not (folder / name).is_file()]
    changed = [name for name in listed if name not in missing and file_digest(folder / name) != listed[name]]
    there = files_in(folder)
    own = (MANIFEST, SUMS, SIGNATURE)
    unlisted = [name for name in there if name not in listed and name not in own and not name.startswith(beside)]
    if SUMS not in there:
        missing.append(SUMS)
    else:
        changed += _of_lists(folder, listed)
    said = [
        f"{word}: {', '.join(names)}"
        for word, names in (("missing", missing), ("changed", changed), ("not listed", unlisted))
        if names
    ]
    if said:
        raise BundleRefused(f"the bundle {folder} is damaged. {'; '.join(said)}. {REPAIR}")
    return len(listed) + 2


def _of_lists(folder: Path, listed: Mapping[str, str]) -> list[str]:
    """Which of the two lists of digests was changed, as far as they tell; each holds the other."""
    written = (folder / SUMS).read_bytes()
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    if written == sums_text(listed, manifest=digest).encode():
        return []
    lines = written.decode("utf-8", errors="replace").splitlines()
    if (
        sorted(lines[:-1]) == sorted(sums_text(listed, manifest=digest).splitlines()[:-1])
        and len(lines) == len(listed) + 1
    ):
        return [f"{MANIFEST} (or its line in {SUMS})"]
    return [f"{SUMS} (or {MANIFEST})"]
