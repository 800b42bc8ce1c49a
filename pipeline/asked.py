"""What the flags of the main command ask for, checked as far as that needs no torch: a slip is told at once."""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import DataMissing, UsageRefused
from pipeline.find_recipe import recipe_file
from targets.budget import LIMIT_KINDS, Budget, Limit, limit_from_text
from targets.find import target_named, target_names
from targets.target import Target

SEED_MOST = 2**63  # NumPy refuses negative seeds, torch those of more than 64 bits


@dataclass(frozen=True)
class Asked:
    """One command, its flags found sensible.

    recipe: as the user wrote it · recipe_file: the user's own file, or None for a built-in recipe
    model: an ONNX file instead of a recipe; mean, std: of its pictures, or None for ImageNet's
    mixed: whether layers may go back to float
    device: where the target is reached, or None for this machine · device_settings: of its jobs
    budget: the limits of the command line alone · out: None leaves the choice to the plan
    """

    target: Target
    recipe: str
    recipe_file: Path | None
    data: Path | None
    out: Path | None
    budget: Budget
    seed: int
    threads: int
    devices: int
    epochs_scale: float
    fresh: bool
    training: bool
    mixed: bool
    device: str | None = None
    device_settings: Mapping[str, Any] = field(default_factory=dict)
    model: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def asked_from(flags: argparse.Namespace) -> Asked:
    """What the flags ask for.

    Raises:
        UsageRefused: a flag makes no sense · DataMissing: --data is no folder
        UnknownTarget, RecipeRefused, BudgetUnreadable: what is named is not there
    """
    if flags.target is None:
        raise UsageRefused(f"--target is missing. There are: {', '.join(target_names())}. Example: --target x86-cpu")
    target = target_named(flags.target)
    if flags.model is not None and not flags.model.is_file():
        raise DataMissing(f"there is no file {flags.model}. Name the ONNX file to quantize.")
    own_file = recipe_file(flags.recipe)
    for name, count, what in (
        ("--threads", flags.threads, "thread"),
        ("--devices", flags.devices, "process"),
    ):
        if count < 1:
            raise UsageRefused(f"{name} {count}: at least one {what} is needed.")
    if not 0 <= flags.seed < SEED_MOST:
        raise UsageRefused(f"--seed {flags.seed}: give a whole number from 0 to 2⁶³ − 1.")
    if not 0 < flags.epochs_scale < math.inf:
        raise UsageRefused(f"--epochs-scale {flags.epochs_scale}: give a number above 0; 1 leaves the recipe as it is.")
    if flags.data is not None and not flags.data.is_dir():
        raise DataMissing(f"--data {flags.data}: there is no such folder. Name the one that holds the recipe's files.")
    return Asked(
        target, flags.recipe, own_file, flags.data, flags.out, Budget(limits_from(flags)),
        flags.seed, flags.threads, flags.devices, flags.epochs_scale, flags.fresh,
        flags.training, flags.mixed, flags.device, settings_from(flags), flags.model, *normalisation_from(flags),
    )  # fmt: skip


def normalisation_from(flags: argparse.Namespace) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """--mean and --std; both or neither.

    Raises:
        UsageRefused: one without the other, without an ONNX file, of different lengths, or no numbers.
    """
    if flags.mean is None and flags.std is None:
        return None, None
    if flags.model is None:
        raise UsageRefused("--mean and --std go with an ONNX file; a recipe says them itself.")
    if flags.mean is None or flags.std is None:
        raise UsageRefused("--mean and --std go together; give both.")
    read: list[tuple[float, ...]] = []
    for name, text in (("--mean", flags.mean), ("--std", flags.std)):
        try:
            read.append(tuple(float(part) for part in text.split(",")))
        except ValueError:
            raise UsageRefused(f"{name} {text!r}: give one or three numbers, for example 0.5,0.5,0.5") from None
    mean, std = read
    if len(mean) != len(std) or len(mean) not in (1, 3) or not all(map(math.isfinite, mean + std)) or min(std) <= 0:
        raise UsageRefused("--mean and --std: give one or three finite numbers each, deviations above 0.")
    return mean, std


def settings_from(flags: argparse.Namespace) -> dict[str, Any]:
    """--lock-clocks and --power-mode, which go with a device.

    Raises:
        UsageRefused: there is none.
    """
    wanted = {"lock_clocks": flags.lock_clocks, "power_mode": flags.power_mode}
    given = {name: value for name, value in wanted.items() if value}
    if given and flags.device is None:
        name = f"--{next(iter(given)).replace('_', '-')}"
        raise UsageRefused(f"{name} goes with a device that is reached: add --device ADDRESS, or leave it out.")
    return given


def limits_from(flags: argparse.Namespace) -> tuple[Limit, ...]:
    """The limits that the command line sets."""
    written = {kind.name: getattr(flags, kind.name) for kind in LIMIT_KINDS}
    return tuple(
        limit_from_text(name, text, origin="command line") for name, text in written.items() if text is not None
    )
