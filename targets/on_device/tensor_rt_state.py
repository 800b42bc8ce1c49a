"""What the device says of itself around a job: its facts, its state before and after, and what made a run unstable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def facts_of(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Those that the job brings along, else read here."""
    found: dict[str, Any] = job.get("facts") or {}
    return found


def state_of(folder: Path) -> dict[str, Any]:
    """Clocks, temperatures and power mode now."""
    return {}


def unstable_of(runs: list[dict[str, Any]], before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Why the times are not to be trusted; nothing where they are."""
    return []
