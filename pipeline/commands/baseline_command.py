"""`compress baseline`: keep bundles for later gates, in a folder that a repository or a store of artifacts can keep."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.arguments import command_parser, flags_from
from pipeline.errors import UsageRefused, nearest

if TYPE_CHECKING:
    from pipeline.gate.baselines import Pruned, Stored

EXAMPLES = """\
examples:
  compress baseline update ./compressed/photos                 keep its bundle in baselines/, as main
  compress baseline update ./compressed/photos --name v2 --store /srv/baselines
  compress baseline update baselines/main.json --name v2       the same bundle under a second name
  compress baseline                                            what is kept in baselines/
  compress baseline update ./compressed/photos --prune         and remove the bundles that no name points at any more

  compress gate --baseline baselines/main.json --candidate ./compressed/photos

A bundle is kept in a folder named by its digest, and NAME.json points at it. The same bundle is never written twice.
docs/ci.md says how a repository keeps such a folder.

exit codes: 0 it is kept, or listed; 2 no bundle or a damaged one, or the folder cannot be written
"""
ACTIONS = ("update",)


def baseline_parser() -> argparse.ArgumentParser:
    """The flags of `compress baseline`."""
    parser = command_parser("baseline", says="Keep bundles that later gates measure again.", examples=EXAMPLES)
    parser.add_argument("action", metavar="update", nargs="?", help="without it what is kept is listed")
    parser.add_argument(
        "bundle", metavar="BUNDLE", nargs="?", type=Path,
        help="the folder of the bundle, the --out of a run, or another baseline",
    )  # fmt: skip
    parser.add_argument(
        "--store", metavar="DIR", type=Path, default=Path("baselines"), help="the folder that keeps; default: baselines"
    )
    parser.add_argument("--name", metavar="NAME", help="with update: what points at it; default: main")
    parser.add_argument("--prune", action="store_true", help="remove the bundles that no name points at")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def baseline(arguments: Sequence[str]) -> int:
    """Run `compress baseline`; returns the exit code."""
    flags = flags_from(baseline_parser(), arguments)
    if flags.action is not None and flags.action not in ACTIONS:
        raise UsageRefused(nearest(flags.action, ACTIONS, kind="action") + " `compress baseline --help` explains them.")
    if flags.action == "update" and flags.bundle is None:
        raise UsageRefused("which bundle? `compress baseline update BUNDLE`: its folder, or the --out of a run.")
    if flags.action is None and flags.name is not None:
        raise UsageRefused("--name goes with update: `compress baseline update BUNDLE --name NAME`.")
    from pipeline.gate.baselines import prune_baselines, update_baseline

    stored = None
    if flags.action == "update":
        stored = update_baseline(flags.bundle, store=flags.store, name=flags.name or "main")
    pruned = prune_baselines(flags.store) if flags.prune else None
    told, text = _listed(flags.store) if stored is None else _updated(stored)
    if pruned is not None:
        told |= {"removed": list(pruned.removed), "left": list(pruned.left)}
        text += _pruned(pruned)
    sys.stdout.write(json.dumps(told, indent=1) + "\n" if flags.json else text)
    return 0


def _updated(stored: "Stored") -> tuple[dict[str, Any], str]:
    from pipeline.gate.baselines import size_of

    named, size = stored.named, size_of(stored.folder)
    told = {
        **_row(named.name, named.as_file(), size), "folder": str(stored.folder),
        "copied": stored.copied, "changed": stored.renamed,
    }  # fmt: skip
    if not stored.renamed:
        said = "pointed at this bundle already"
    else:
        said = "points at it now" + (f", and not at {named.replaced[:16]} any more" if named.replaced else "")
    how = "stored" if stored.copied else "was there already"
    return told, f"{stored.folder}: {how}, {_size(size)}, for {named.target}\n{named.name} {said}\n"


def _listed(store: Path) -> tuple[dict[str, Any], str]:
    from pipeline.gate.baseline_names import names_in
    from pipeline.gate.baselines import size_of

    names = [(named, size_of(store / named.bundle)) for named in names_in(store)]
    told = {"schema": 1, "store": str(store), "baselines": [_row(each.name, each.as_file(), s) for each, s in names]}
    if not names:
        return told, f"{store} keeps no baseline. `compress baseline update BUNDLE` puts one there.\n"
    rows = [("name", "target", "bundle", "date", "size")]
    rows += [(each.name, each.target, each.bundle, (each.date or "–")[:10], _size(size)) for each, size in names]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return told, "\n".join(lines) + "\n"


def _row(name: str, file: dict[str, Any], size: int | None) -> dict[str, Any]:
    fields = {key: value for key, value in file.items() if key not in ("schema", "kind")}
    return {"name": name, **fields, "bytes": size}


def _pruned(pruned: "Pruned") -> str:
    said = "".join(f"removed {name}: no name points at it\n" for name in pruned.removed)
    said += "".join(f"left: {each}\n" for each in pruned.left)
    return said or "nothing to remove: a name points at every bundle\n"


def _size(size: int | None) -> str:
    return "not there" if size is None else f"{size / 1e6:.2f} MB"
