"""A recipe for a budget; and without its training, where the quantize stage does all it can without.

The teacher stays as it is: a file of weights, or a training of its own, which is no compression.
"""

from dataclasses import fields, replace
from typing import Any

from pipeline.quantization.mixed_precision import MixedPrecision
from pipeline.quantization.preparation import Preparation
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.quantize import Quantize
from targets.budget import Budget


def without_training(recipe: Recipe) -> Recipe:
    """The recipe with its training stages left out and its quantizers set by calibration alone.

    The student goes with them: without distillation nothing but the teacher is there to be quantized.
    """
    stages: list[Any] = []
    for stage in recipe.stages:
        if isinstance(stage, Quantize):
            stages.append(replace(stage, training=None, preparation=stage.preparation or Preparation()))
        elif "training" not in {field.name for field in fields(stage)}:  # type: ignore[arg-type]
            stages.append(stage)
    return replace(recipe, stages=tuple(stages), student=None)


def with_mixed_precision(recipe: Recipe, *, budget: Budget) -> Recipe:
    """The recipe whose calibrated network gives layers back to float while it misses the accuracy of `budget`.

    budget: what holds in the end; without an accuracy limit, one point may be lost
    """
    limit = budget.limit("max_accuracy_drop_points")
    mixed = MixedPrecision() if limit is None else MixedPrecision(max_drop_points=limit.bound)
    stages = [
        replace(each, mixed=each.mixed or mixed) if isinstance(each, Quantize) else each for each in recipe.stages
    ]
    return replace(recipe, stages=tuple(stages))


def held_to_accuracy(recipe: Recipe, *, budget: Budget) -> Recipe:
    """The recipe whose build hands over an engine within the accuracy of `budget` where there is one."""
    limit = budget.limit("max_accuracy_drop_points")
    if limit is None:
        return recipe
    stages = [
        replace(each, max_drop_points=limit.bound) if isinstance(each, Build) and each.max_drop_points is None else each
        for each in recipe.stages
    ]
    return replace(recipe, stages=tuple(stages))
