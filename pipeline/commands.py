"""The commands beside the main one: each reads its flags, does one thing and returns an exit code."""

from collections.abc import Sequence

NAMES = ("targets", "recipes", "init", "verify", "run", "doctor")


def run_command(arguments: Sequence[str]) -> int:
    """Run `compress NAME …`."""
    return 0
