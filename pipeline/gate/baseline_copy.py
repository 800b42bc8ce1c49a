"""How a bundle gets into a store of baselines: copied beside its place, held against its digests, renamed into it.

Half a bundle never stands in a store, and one process at a time writes into it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import BundleRefused, OutRefused
from pipeline.gate.baseline_names import digest_at
from pipeline.integrity import MANIFEST, SIGNATURE, SUMS, files_in, read_manifest, refuse_damaged
from pipeline.signing import EVIDENCE
from pipeline.store import file_digest, refusal, written_atomically


def is_whole(folder: Path, digest: str, *, beside: tuple[str, ...] = EVIDENCE) -> bool:
    """Whether the bundle of this digest lies there, every file of it as it should be.

    beside: beginnings of names that may lie there without being listed
    """
    if digest_at(folder) != digest:
        return False
    try:
        refuse_damaged(folder, read_manifest(folder), beside=beside)
    except BundleRefused:
        return False
    return True


def copy_bundle(source: Path, place: Path, *, listed: Mapping[str, str]) -> None:
    """Put a copy of the bundle at `source` in `place`; a damaged one that is there is replaced.

    listed: the files of its manifest; what lies beside them, a device's evidence say, is not copied

    Raises:
        OutRefused: it cannot be written, something else lies there, or the copy is not what was read.
    """
    own = (MANIFEST, SUMS, SIGNATURE)
    foreign = [name for name in files_in(place) if name not in listed and name not in own] if place.is_dir() else []
    if foreign or place.is_file():
        raise OutRefused(
            f"{place} is in the way: it holds {foreign[0] if foreign else 'no folder'}, which is of no bundle. Move it "
            "away, or choose another folder with --store."
        )
    beside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        new = beside / "new"
        for name in [*listed, *(name for name in own if (source / name).is_file())]:
            copy_file(source / name, new / name)
        if not is_whole(new, file_digest(source / SUMS)):
            raise OutRefused(
                f"the copy of {source} in {place.parent} is not what was read. Nothing was kept; look at the disk and "
                "at what else writes into either folder, and run it again."
            )
        new.chmod(0o755)
        if place.exists() or place.is_symlink():
            place.rename(beside / "old")
        new.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def copy_file(source: Path, goal: Path) -> None:
    """Copy a file's bytes to the disk, atomically; neither its owner nor its rights come along."""
    with written_atomically(goal) as beside:
        shutil.copyfile(source, beside)


@contextmanager
def held(store: Path) -> Iterator[None]:
    """Hold the store's own folder for this process: a lock file would end in somebody's repository.

    Raises:
        OutRefused: another process holds it, or it cannot be written; also where a write within fails.
    """
    handle = None
    try:
        store.mkdir(parents=True, exist_ok=True)
        handle = os.open(store, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutRefused(f"another `compress baseline` is at work in {store}. Run this again after it.") from error
        yield
    except OSError as error:
        raise OutRefused(_of_store(str(refusal(store / "bundle", error)))) from error
    except OutRefused as error:
        raise OutRefused(_of_store(str(error))) from error
    finally:
        if handle is not None:
            os.close(handle)


def _of_store(sentence: str) -> str:
    """The sentence with the flag that names a store."""
    return sentence.replace("--out", "--store")
