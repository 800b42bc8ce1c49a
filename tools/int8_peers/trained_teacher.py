"""A row whose network is trained here: the teacher of a recipe, from the labels of its data, once per --work folder.

trained/…/    weights.safetensors
"""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from int8_peers.opening import TARGET
from pipeline.candidate import load_weights
from pipeline.compress import run_for
from pipeline.data.dataset import Dataset
from pipeline.plan import Plan
from pipeline.progress import Quiet
from pipeline.recipe import recipe_named
from pipeline.stages.teach import teach
from pipeline.store import digest_of
from pipeline.workers import start_workers
from targets.budget import Budget
from targets.find import target_named

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Trained:
    """One row.

    recipe: whose teacher it is · epochs_scale: of its training
    """

    name: str
    recipe: str
    epochs_scale: float = 1.0


def identity_of(network: Trained, data: Path, *, cache: Path) -> str:
    """Of all that the network hangs on but the seed."""
    recipe = recipe_named(network.recipe)
    return digest_of(recipe.teacher, network.epochs_scale, recipe.data(data, cache=cache).digest)


def teacher_of(network: Trained, data: Path, *, beside: Path, seed: int) -> tuple[Dataset, nn.Module]:
    """The data of the recipe and its teacher, trained below `beside` unless it was before.

    An interrupted training goes on where it was.
    """
    recipe = recipe_named(network.recipe)
    dataset = recipe.data(data, cache=beside / "data")
    digest = digest_of(identity_of(network, data, cache=beside / "data"), seed)
    place = beside / "trained" / digest[:16]
    if not (place / WEIGHTS).is_file():
        plan = Plan(
            recipe=recipe, target=target_named(TARGET), budget=Budget(), out=place, data=data, seed=seed,
            epochs_scale=network.epochs_scale,
        )  # fmt: skip
        run = run_for(plan, {}, dataset, start_workers(devices=1, hosts=1, threads=plan.threads), Quiet())
        teach(recipe.teacher, weights=None, run=replace(run, folder=place, digest=digest))
    module = recipe.teacher.factory()
    load_weights(module, place / WEIGHTS)
    return dataset, module.eval()
