"""`compress targets`: the devices there are, and what each can do on this machine."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.arguments import command_parser, flags_from
from targets.budget import limit_kind
from targets.errors import EngineMissing
from targets.find import target_named, target_names
from targets.target import Target

EXAMPLES = """\
examples:
  compress targets
  compress targets x86-cpu        with the sources of its figures
"""


def list_targets(arguments: Sequence[str]) -> int:
    """Run `compress targets`; returns the exit code."""
    parser = command_parser("targets", says="List the devices to compress for.", examples=EXAMPLES)
    parser.add_argument("name", metavar="NAME", nargs="?", help="one target, or the path of a file of yours")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    flags = flags_from(parser, arguments)
    names = [flags.name] if flags.name else target_names()
    told = [target_as_json(target_named(name)) for name in names]
    if flags.json:
        sys.stdout.write(json.dumps({"schema": 1, "targets": told}, indent=1) + "\n")
    else:
        sys.stdout.write("\n".join(target_text(each, sources=flags.name is not None) for each in told))
    return 0


def target_as_json(target: Target) -> dict[str, Any]:
    """Everything about a target; `runtime` is null with `missing` saying how to install it."""
    runtime, missing = None, None
    try:
        runtime = target.engine.runtime
    except EngineMissing as error:
        missing = str(error)
    limits = [
        {"limit": limit.name, "flag": limit_kind(limit.name).flag, "bound": limit.bound, "origin": limit.origin}
        for limit in target.budget.limits
    ]
    return {
        "name": target.name,
        "summary": target.summary,
        "here": target.is_here(),
        "engine": {"name": target.engine.name, "runtime": runtime, "missing": missing},
        "scheme": asdict(target.scheme()),
        "limits": limits,
        "sources": list(target.sources),
    }


def target_text(told: dict[str, Any], *, sources: bool) -> str:
    """A target as a few lines."""
    engine, scheme = told["engine"], told["scheme"]
    limits = ", ".join(f"{limit['flag']} {limit['bound']:g} ({limit['origin']})" for limit in told["limits"])
    lines = [
        f"{told['name']}: {told['summary']}",
        f"  here      {'yes' if told['here'] else 'no: run the command on the device itself'}",
        f"  engine    {engine['runtime'] or engine['missing']}",
        f"  integers  {scheme['weight_bits']}-bit weights, 8-bit activations: {scheme['why']}",
        f"  budgets   {limits or 'none'}",
    ]
    if sources:
        lines += [f"  source    {source}" for source in told["sources"]]
    return "\n".join(lines) + "\n"
