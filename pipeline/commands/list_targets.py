"""`compress targets`: the devices there are, which of them this machine is, and what is known of each, with sources."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.arguments import command_parser, flags_from
from pipeline.commands.shown_profile import Sources, profile_as_json, profile_text
from targets.budget import limit_kind
from targets.errors import DeviceMissing, EngineMissing
from targets.find import target_named, target_names
from targets.target import Target

EXAMPLES = """\
examples:
  compress targets
  compress targets jetson-orin    every figure of it, with its source
"""
HOW_REACHED = "--device ssh://user@host[:port], or a name of `compress devices`; its engine is built and timed there"
NOT_HERE = "no: latency stays undecided, and everything that can be done without it is done"


def list_targets(arguments: Sequence[str]) -> int:
    """Run `compress targets`; returns the exit code."""
    parser = command_parser("targets", says="List the devices to compress for.", examples=EXAMPLES)
    parser.add_argument("name", metavar="NAME", nargs="?", help="one target, or the path of a file of yours")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    flags = flags_from(parser, arguments)
    names = [flags.name] if flags.name else target_names()
    told = [target_as_json(target_named(name)) for name in names]
    if flags.json:
        text = json.dumps({"schema": 1, "targets": told}, indent=1) + "\n"
    else:
        text = target_text(told[0]) if flags.name else table_text(told)
    sys.stdout.write(text)
    return 0


def target_as_json(target: Target) -> dict[str, Any]:
    """Everything about a target.

    `runtime` is null with `missing` saying how to come by it; `profile` is null where all is read from the machine.
    """
    runtime, missing = None, None
    try:
        runtime = target.engine.runtime
    except (EngineMissing, DeviceMissing) as error:
        missing = str(error)
    limits = [
        {"limit": limit.name, "flag": limit_kind(limit.name).flag, "bound": limit.bound, "origin": limit.origin}
        for limit in target.budget.limits
    ]
    return {
        "name": target.name,
        "summary": target.summary,
        "here": target.is_here(),
        "reached": HOW_REACHED if target.fits is not None else None,
        "engine": {"name": target.engine.name, "runtime": runtime, "missing": missing},
        "scheme": asdict(target.scheme()),
        "limits": limits,
        "profile": profile_as_json(target.profile),
        "sources": list(target.sources),
    }


def table_text(told: Sequence[dict[str, Any]]) -> str:
    """A line for each target."""
    width = max(len(each["name"]) for each in told)
    lines = [f"{'target':<{width}}  here  what it is"]
    lines += [f"{each['name']:<{width}}  {'yes ' if each['here'] else 'no  '}  {each['summary']}" for each in told]
    return "\n".join([*lines, "", "`compress targets NAME` shows one with its figures and their sources."]) + "\n"


def target_text(told: dict[str, Any]) -> str:
    """All about one target."""
    engine, scheme = told["engine"], told["scheme"]
    limits = ", ".join(f"{limit['flag']} {limit['bound']:g} ({limit['origin']})" for limit in told["limits"])
    lines = [
        f"{told['name']}: {told['summary']}",
        f"  {'here':<13} {'yes' if told['here'] else NOT_HERE}",
        *([f"  {'reached':<13} {told['reached']}"] if told["reached"] else []),
        f"  {'engine':<13} {engine['runtime'] or engine['missing']}",
        f"  {'integers':<13} {scheme['weight_bits']}-bit weights, 8-bit activations: {scheme['why']}",
        f"  {'budgets':<13} {limits or 'none'}",
    ]
    sources = Sources()
    if told["profile"] is not None:
        lines += profile_text(told["profile"], sources)
    for source in told["sources"]:
        sources.mark(source)
    return "\n".join([*lines, "sources", *sources.lines()]) + "\n"
