"""Everything a run is asked to do, before it starts; and the digests by which finished work is found again."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.asked import Asked
from pipeline.candidate import Candidate, Form
from pipeline.data.find_files import find_all
from pipeline.post_training import held_to_accuracy, with_mixed_precision, without_training
from pipeline.recipe import Recipe, recipe_named
from pipeline.recipe_from_onnx import recipe_from_onnx
from pipeline.stage import Run, Stage
from pipeline.stages.teach import Network, Teacher
from pipeline.store import code_version, digest_of, file_digest
from targets.budget import Budget
from targets.reach.reached import Reached, identity_of
from targets.target import Target

OWN_PACKAGES = ("pipeline", "targets", "calibration")


@dataclass(frozen=True)
class Plan:
    """One command, understood.

    budget: what holds in the end, every limit with its origin · data: where files are looked for, or None
    out: the folder of the run · recipe_file: the user's own recipe, or None
    """

    recipe: Recipe
    target: Target
    budget: Budget
    out: Path
    data: Path | None = None
    recipe_file: Path | None = None
    seed: int = 0
    threads: int = 1
    epochs_scale: float = 1.0
    fresh: bool = False

    @property
    def work(self) -> Path:
        """Where finished stages and checkpoints lie."""
        return self.out / "work"

    @property
    def bundle(self) -> Path:
        """Where the bundle is written."""
        return self.out / "bundle"

    def weights(self) -> dict[str, Path]:
        """The files of weights that the recipe names, found below `data` or by their own path.

        Raises:
            DataMissing: with every file that is missing and where it was looked for.
        """
        networks: dict[str, Network | Teacher | None] = {"teacher": self.recipe.teacher, "student": self.recipe.student}
        named = {role: network.weights for role, network in networks.items() if network and network.weights}
        found = {role: Path(name) for role, name in named.items() if Path(name).is_file()}
        missing = [role for role in named if role not in found]
        if missing:
            what = f"the weights of the {' and the '.join(missing)} of recipe '{self.recipe.name}'"
            paths = find_all([(named[role],) for role in missing], self.data, what=what)
            found |= dict(zip(missing, paths, strict=True))
        return found

    def code(self) -> list[str]:
        """Digests of all code a result depends on: ours, the user's recipe, and the files of the network factories."""
        parts = [code_version()]
        if self.recipe_file is not None:
            parts.append(file_digest(self.recipe_file))
        for network in (self.recipe.teacher, self.recipe.student):
            source = source_file(network.factory) if network else None
            if source is not None:
                parts.append(file_digest(source))
        return parts

    def teacher_digest(self, *, data: str, weights: Path | None) -> str:
        """Of everything the teacher depends on; `data` is the digest of the data set."""
        given = file_digest(weights) if weights else [self.seed, self.epochs_scale]
        return digest_of("teacher", self.code(), self.recipe.teacher, data, given)

    def stage_digest(self, stage: Stage, parent: Candidate, run: Run, *, student_weights: str | None) -> str:
        """Of everything the result of `stage` on `parent` depends on; its limits are judged later and are no part."""
        settings = dataclasses.replace(stage, limits=Budget())  # type: ignore[type-var]
        parts: list[Any] = [self.code(), settings, parent.digest, run.dataset.digest, self.recipe.metric]
        parts += [self.recipe.student, student_weights, self.seed, self.epochs_scale]
        if stage.for_target:
            parts += [self.target.name, self.target.engine.runtime, self.target.scheme(), self.threads]
            parts += [identity_of(self.target.device)] if self.target.device is not None else []
        if stage.gives is Form.ENGINE:  # the fastest of what is installed is handed over
            parts.append([engine.runtime for engine in self.target.further_engines_here()])
        return digest_of(*parts)


def source_file(function: Callable[..., Any]) -> Path | None:
    """The file that defines a factory, when it is the user's; our own files are part of the code version."""
    while isinstance(function, functools.partial):
        function = function.func
    if getattr(function, "__module__", "").split(".")[0] in OWN_PACKAGES:
        return None
    try:
        name = inspect.getsourcefile(function)
    except TypeError:
        return None
    return Path(name) if name else None


def plan_from(asked: Asked, *, device: Reached | None = None) -> Plan:
    """The plan that the flags of the main command ask for; device: the one that was reached, or None.

    Raises:
        RecipeRefused: the recipe's file fails, or holds no recipe
        DeviceMissing: the device is no such target
    """
    target = (
        asked.target.from_here() if device is None else asked.target.through(device, settings=asked.device_settings)
    )
    if asked.model is not None:
        recipe = recipe_from_onnx(asked.model, mean=asked.mean, std=asked.std)
    else:
        recipe = recipe_named(asked.recipe)
    budget = asked.budget.over(recipe.budget.over(asked.target.budget))
    if not asked.training:
        recipe = without_training(recipe)
    if asked.mixed:
        recipe = with_mixed_precision(recipe, budget=budget)
    recipe = held_to_accuracy(recipe, budget=budget)
    return Plan(
        recipe=recipe, target=target, budget=budget,
        out=asked.out or Path("compressed") / f"{recipe.name}-{asked.target.name}", data=asked.data,
        recipe_file=asked.recipe_file, seed=asked.seed, threads=asked.threads, epochs_scale=asked.epochs_scale,
        fresh=asked.fresh,
    )  # fmt: skip
