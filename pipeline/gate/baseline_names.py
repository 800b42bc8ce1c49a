"""The names of a store of baselines: small files that point at bundles.

    DIR/<first 16 hexadecimal digits of the digest>/   a bundle, as it was
    DIR/NAME.json                                      what stands under a name now

NAME.json

    schema, kind ("edge-compress baseline")
    digest: SHA-256 of the bundle's SHA256SUMS, which holds the digest of every other file · bundle: its folder here
    target: name · created_by: the program that made the bundle
    date: of the bundle's manifest file when it was stored, UTC, or null · replaced: the digest before this one, or null

A store is a plain folder: a repository keeps it (the bundles in Git LFS, say), or a store of artifacts.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import BundleRefused, UsageRefused
from pipeline.integrity import SUMS

KIND = "edge-compress baseline"
SCHEMA = 1
DIGITS = 16  # of the digest, in a folder's name
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FOLDER = re.compile(rf"[0-9a-f]{{{DIGITS}}}")
DIGEST = re.compile(r"[0-9a-f]{64}")
TAKEN = ("manifest", "result")  # a store with one of these would look like a bundle or a run


@dataclass(frozen=True)
class Named:
    """What stands under a name; the fields are those of its file, described above."""

    name: str
    digest: str
    bundle: str
    target: str
    created_by: str
    date: str | None
    replaced: str | None

    def as_file(self) -> dict[str, Any]:
        """What is written into NAME.json."""
        told = {key: value for key, value in asdict(self).items() if key != "name"}
        return {"schema": SCHEMA, "kind": KIND, **told}


def refuse_name(name: str) -> None:
    """Pass what is a file name everywhere.

    Raises:
        UsageRefused: it could lead elsewhere, or would be taken for something else.
    """
    if NAME.fullmatch(name) is None or name.endswith("."):
        raise UsageRefused(
            f"--name {name!r} is no name for a baseline. Use letters, digits, '.', '_' and '-', 64 at most, and begin "
            "with a letter or digit: --name main"
        )
    if name.lower() in TAKEN:
        raise UsageRefused(f"--name {name}: {name}.json is a file of a bundle or of a run. Choose another, like main.")


def named_in(path: Path) -> Named | None:
    """What a file of a store points at; None for a JSON file of something else.

    Raises:
        BundleRefused: it is no JSON, or no whole pointer.
    """
    restore = "Restore it, or write it again with `compress baseline update`."
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleRefused(f"the baseline {path} is damaged: it is no JSON ({error}). {restore}") from error
    if not isinstance(told, dict) or told.get("kind") != KIND:
        return None
    if told.get("schema") != SCHEMA:
        raise BundleRefused(
            f"{path} is of schema {told.get('schema')!r}, and this version reads schema {SCHEMA}. "
            "Read it with the edge-compress that wrote it."
        )
    digest, folder = told.get("digest"), told.get("bundle")
    sound = isinstance(digest, str) and DIGEST.fullmatch(digest) is not None and folder == digest[:DIGITS]
    if not sound:
        raise BundleRefused(f"the baseline {path} names no bundle by its digest. {restore}")
    texts = {key: str(told.get(key) or "?") for key in ("target", "created_by")}
    rest = {key: str(told[key]) if told.get(key) else None for key in ("date", "replaced")}
    return Named(path.stem, str(digest), str(folder), texts["target"], texts["created_by"], **rest)


def names_in(store: Path) -> list[Named]:
    """Every name of a store, in order; none where there is no folder.

    Raises:
        BundleRefused: one of them is damaged.
    """
    found = [named_in(path) for path in sorted(store.glob("*.json")) if path.is_file()]
    return [each for each in found if each is not None]


def digest_at(folder: Path) -> str | None:
    """The digest that a bundle is stored under; None where there is no list of digests."""
    try:
        return hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()
    except OSError:
        return None
