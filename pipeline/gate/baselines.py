"""A store of baselines: bundles that a later gate measures again, each under the digest of its content.

What a file of names holds stands in baseline_names.py, how a bundle gets into the store in baseline_copy.py. The same
bundle is never written twice.
"""

import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pipeline.errors import BundleRefused, OnlyNumbers, UsageRefused
from pipeline.gate.baseline_copy import copy_bundle, copy_file, held, is_whole
from pipeline.gate.baseline_names import DIGITS, FOLDER, Named, digest_at, named_in, names_in, refuse_name
from pipeline.integrity import MANIFEST, SIGNATURE, SUMS, bundle_at, files_in, read_manifest, refuse_damaged
from pipeline.signing import EVIDENCE
from pipeline.store import RESULT, file_digest, write_json

STORE = Path("baselines")
LEFT = re.compile(r"\.[0-9a-f]{16}\.\w+")  # by a run that was killed
POINTER = b"version https://git-lfs.github.com/spec/"  # how a file begins that Git LFS has not fetched
KEEP = (
    "A number of another machine or another day is not compared: keep the bundle itself, with "
    "`compress baseline update BUNDLE`, and give that as --baseline."
)


@dataclass(frozen=True)
class Stored:
    """What an update did.

    copied: whether the bundle was written; False: it was there already · renamed: whether the name points elsewhere now
    """

    named: Named
    folder: Path
    copied: bool
    renamed: bool


@dataclass(frozen=True)
class Pruned:
    """What no name pointed at: bundles removed, and folders that were left, with the reason."""

    removed: tuple[str, ...]
    left: tuple[str, ...]


def bundle_of_baseline(place: Path) -> Path:
    """The folder of the bundle that a place means; its files are not held against their digests yet.

    place: a bundle's folder or manifest, the --out of a run, a NAME.json of a store, or a store with one name

    Raises:
        OnlyNumbers: a stored measurement lies there, and no engine. BundleRefused: there is no bundle, or its files
        were not fetched. UsageRefused: the store has several names.
    """
    if place.is_file() and place.name != MANIFEST:
        return _pointed_at(place)
    if place.is_dir() and not any((folder / MANIFEST).is_file() for folder in (place, place / "bundle")):
        names = names_in(place)
        if len(names) > 1:
            listed = ", ".join(each.name for each in names)
            raise UsageRefused(
                f"{place} holds {len(names)} baselines ({listed}). Name one of them: {place / names[0].name}.json"
            )
        if names:
            return _pointed_at(place / f"{names[0].name}.json")
        if any((folder / RESULT).is_file() for folder in (place, place / "bundle")):
            raise OnlyNumbers(f"{place} holds measurements and no engine. {KEEP}")
    if not place.exists() and place.with_name(f"{place.name}.json").is_file():
        raise BundleRefused(f"there is no folder {place}. Did you mean the baseline {place}.json?")
    folder = bundle_at(place)
    refuse_unfetched(folder)
    engine = read_manifest(folder)["engine"]["file"]
    if not (folder / engine).is_file() and not (folder / "model.onnx").is_file():
        raise OnlyNumbers(f"{folder} holds what was measured of {engine}, and not the engine. {KEEP}")
    return folder


def update_baseline(place: Path, *, store: Path = STORE, name: str = "main") -> Stored:
    """Keep the bundle at `place` in the store, and let the name point at it.

    Raises:
        BundleRefused: it is no bundle, or damaged. UsageRefused: the name is none. OutRefused: the store cannot be
        written.
    """
    refuse_name(name)
    source = bundle_of_baseline(place)
    manifest = read_manifest(source)
    refuse_damaged(source, manifest, beside=EVIDENCE)
    if store.resolve().is_relative_to(source.resolve()):
        raise UsageRefused(f"--store {store} lies inside the bundle {source}. Choose a folder beside it.")
    digest = file_digest(source / SUMS)
    with held(store):
        for left in store.iterdir():
            if LEFT.fullmatch(left.name):
                shutil.rmtree(left, ignore_errors=True)
        folder = store / digest[:DIGITS]
        copied = not is_whole(folder, digest)
        if copied:
            copy_bundle(source, folder, listed=manifest["files"])
        elif _signed_anew(source, folder):
            copy_file(source / SIGNATURE, folder / SIGNATURE)
        before = _before(store / f"{name}.json")
        if before is not None and before.digest == digest:
            return Stored(before, folder, copied, renamed=False)
        said = str(manifest.get("created_by") or "?")
        named = Named(
            name, digest, folder.name, str(manifest["target"].get("name")), said, _date_of(source, digest, store),
            None if before is None else before.digest,
        )  # fmt: skip
        write_json(store / f"{name}.json", named.as_file())
    return Stored(named, folder, copied, renamed=True)


def prune_baselines(store: Path = STORE) -> Pruned:
    """Remove the whole bundles of a store that no name points at, and nothing else.

    Raises:
        BundleRefused: a name is damaged, so what it points at is not known. UsageRefused: there is no such folder.
    """
    if not store.is_dir():
        raise UsageRefused(f"there is no store {store}. Name it with --store.")
    removed, left = [], []
    with held(store):
        kept = {named.bundle for named in names_in(store)}
        for folder in sorted(store.iterdir()):
            if FOLDER.fullmatch(folder.name) is None or folder.name in kept or folder.is_symlink():
                continue
            digest = digest_at(folder)
            if digest is None or digest[:DIGITS] != folder.name or not is_whole(folder, digest, beside=()):
                left.append(f"{folder} is no whole bundle, or holds other files: look at it, and remove it yourself")
                continue
            gone = Path(tempfile.mkdtemp(dir=store, prefix=f".{folder.name}."))
            folder.rename(gone / "old")  # a run that is killed now leaves no half a bundle under its name
            shutil.rmtree(gone)
            removed.append(folder.name)
    return Pruned(tuple(removed), tuple(left))


def size_of(folder: Path) -> int | None:
    """Bytes of all files of a stored bundle; None where it is not there."""
    return sum((folder / name).stat().st_size for name in files_in(folder)) if folder.is_dir() else None


def refuse_unfetched(folder: Path) -> None:
    """Pass files that are there, and not the pointers that Git LFS leaves in their place.

    Raises:
        BundleRefused: naming them.
    """
    names = [name for name in files_in(folder) if (folder / name).is_file() and _begins_as_pointer(folder / name)]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise BundleRefused(
            f"{folder} was not fetched: {', '.join(names[:3])}{more} are pointers of Git LFS. Run `git lfs pull` "
            "(actions/checkout: `lfs: true`)."
        )


def _begins_as_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def _pointed_at(path: Path) -> Path:
    if path.suffix != ".json":
        raise BundleRefused(f"{path} is a single file. Give the folder of its bundle: the gate needs its inputs too.")
    refuse_unfetched_name(path)
    named = named_in(path)
    if named is None:
        raise OnlyNumbers(f"{path} holds numbers and no engine. {KEEP}")
    folder = path.parent / named.bundle
    if not folder.is_dir():
        raise BundleRefused(
            f"{path} points at the bundle {named.bundle}, which is not in {path.parent}. Fetch that folder too, or "
            "store the bundle again with `compress baseline update`."
        )
    refuse_unfetched(folder)
    if digest_at(folder) != named.digest:
        raise BundleRefused(
            f"{folder} is not what {path} points at: {SUMS} has another digest. Fetch it again; where git changed its "
            "line ends, write `* -text` into .gitattributes there."
        )
    return folder


def refuse_unfetched_name(path: Path) -> None:
    """The same for a file of names."""
    if _begins_as_pointer(path):
        raise BundleRefused(f"{path} was not fetched: it is a pointer of Git LFS. Run `git lfs pull`.")


def _signed_anew(source: Path, folder: Path) -> bool:
    """Whether the bundle was signed since it was stored: a signature is in no list, so its digest is the same."""
    ours, kept = source / SIGNATURE, folder / SIGNATURE
    return ours.is_file() and not (kept.is_file() and kept.read_bytes() == ours.read_bytes())


def _before(path: Path) -> Named | None:
    """What stands under the name now; a damaged file is overwritten."""
    try:
        return named_in(path) if path.is_file() else None
    except BundleRefused:
        return None


def _date_of(source: Path, digest: str, store: Path) -> str | None:
    """The date that another name of the store knows for this bundle, or that of the manifest's file."""
    for path in sorted(store.glob("*.json")):
        named = _before(path)
        if named is not None and named.digest == digest:
            return named.date
    made = datetime.fromtimestamp((source / MANIFEST).stat().st_mtime, tz=timezone.utc)
    return made.isoformat(timespec="seconds")
