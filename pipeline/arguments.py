"""Flags read so that a slip is answered in a sentence: what is unknown, and what was probably meant."""

import argparse
import difflib
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from pipeline.errors import UsageRefused


def command_parser(name: str, *, says: str, examples: str) -> argparse.ArgumentParser:
    """The parser of `compress NAME`; `name` is empty for the main command. Flags are spelled out, never shortened."""
    return argparse.ArgumentParser(
        prog=f"compress {name}".strip(), description=says, epilog=examples, allow_abbrev=False, exit_on_error=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def flags_from(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The flags that were given.

    Raises:
        UsageRefused: a flag is unknown, or its value is not of its kind.
    """
    try:
        flags, unknown = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise UsageRefused(f"{str(error).rstrip('.')}. `{parser.prog} --help` explains every flag.") from error
    if unknown:
        raise UsageRefused(unknown_flag(unknown[0], parser))
    return flags


def unknown_flag(given: str, parser: argparse.ArgumentParser) -> str:
    """The sentence for an argument that the parser does not know."""
    told = f"`{parser.prog} --help` explains every flag."
    if not given.startswith("-"):
        return f"{given!r} is one argument too many. {told}"
    known = sorted(set(re.findall(r"--[a-z][a-z-]*", parser.format_usage())))
    close = difflib.get_close_matches(given.split("=")[0], known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"unknown flag {given.split('=')[0]!r}.{hint} {told}"


def own_version() -> str:
    """The installed version of this program."""
    try:
        return version_of("edge-compress")
    except PackageNotFoundError:
        return "(not installed)"
