"""When an engine's network is beyond the accuracy budget, by hand."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset
from pipeline.models.convnet import ConvNet
from pipeline.post_training import held_to_accuracy
from pipeline.recipes.digits import RECIPE
from pipeline.stage import Run
from pipeline.stages.build import Build
from pipeline.stages.rivals import Rival
from pipeline.stages.same_answers import Parity
from pipeline.stages.within_budget import over_budget
from targets.budget import Budget, Limit
from targets.engines.nothing import Nothing


def test_of_1000_inputs_100_lost_are_beyond_5_points_for_certain_and_not_beyond_9(
    tmp_path: Path,
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset],
) -> None:
    data = tiny_data((3, 4, 4), counts=(8, 1000, 8))
    teacher = candidate_in(tmp_path, partial(ConvNet, width=8, classes=4, channels=3), data)
    run = run_in(tmp_path / "build", dataset=data, teacher=teacher)
    child = replace(teacher, digest="2" * 64)
    right = np.eye(4)[run.dataset.validation.labels]
    worse = right.copy()
    worse[:100] = -worse[:100]  # the right class is the last one now
    kept = {("float64", teacher.digest, "validation"): right, ("float64", child.digest, "validation"): worse}
    parity = Parity(run, 0.999, kept)
    rival = Rival("int8", Nothing(), tmp_path, child, ())
    # 100 of 1000: 10 points; Tango's interval at 95 % begins above 8
    assert over_budget(rival, run, parity, split=run.dataset.validation, most_points=9.0) == ""
    said = over_budget(rival, run, parity, split=run.dataset.validation, most_points=5.0)
    assert said.startswith("beyond the accuracy budget: its network loses 10.00 points (at least 8.")
    assert said.endswith("and 5 are allowed")
    assert over_budget(rival, run, parity, split=run.dataset.validation, most_points=None) == ""
    assert over_budget(replace(rival, origin=teacher), run, parity, split=run.dataset.validation, most_points=0.0) == ""


def test_the_build_of_a_recipe_is_held_to_the_2_points_of_the_budget_unless_it_has_its_own() -> None:
    budget = Budget((Limit("max_accuracy_drop_points", 2.0, "test"),))

    def bounds(found: object) -> list[float | None]:
        return [each.max_drop_points for each in found.stages if isinstance(each, Build)]  # type: ignore[attr-defined]

    assert bounds(held_to_accuracy(RECIPE, budget=budget)) == [2.0]
    assert bounds(held_to_accuracy(RECIPE, budget=Budget())) == [None]
    own = replace(
        RECIPE,
        stages=tuple(replace(each, max_drop_points=1.0) if isinstance(each, Build) else each for each in RECIPE.stages),
    )
    assert bounds(held_to_accuracy(own, budget=budget)) == [1.0]
