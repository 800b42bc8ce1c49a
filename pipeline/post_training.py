"""A recipe without its training: what needs training is left out, and the quantize stage does all it can without.

The teacher stays as it is: a file of weights, or a training of its own, which is no compression.
"""

from dataclasses import fields, replace
from typing import Any

from pipeline.quantization.mixed_precision import MixedPrecision
from pipeline.quantization.preparation import Preparation
from pipeline.recipe import Recipe
from pipeline.stages.quantize import Quantize
from targets.budget import Budget


def without_training(recipe: Recipe, *, budget: Budget | None = None) -> Recipe:
    """The recipe with its training stages left out and its quantizers set by calibration alone.

    budget: what holds in the end; layers go back to float while its accuracy is missed. None: the recipe's own

    The student goes with them: without distillation nothing but the teacher is there to be quantized.
    """
    limit = (budget or recipe.budget).limit("max_accuracy_drop_points")
    mixed = MixedPrecision() if limit is None else MixedPrecision(max_drop_points=limit.bound)
    stages: list[Any] = []
    for stage in recipe.stages:
        if isinstance(stage, Quantize):
            steps = stage.preparation or Preparation()
            stages.append(replace(stage, training=None, preparation=steps, mixed=stage.mixed or mixed))
        elif "training" not in {field.name for field in fields(stage)}:  # type: ignore[arg-type]
            stages.append(stage)
    return replace(recipe, stages=tuple(stages), student=None)
