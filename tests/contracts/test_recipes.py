"""What holds for every recipe that exists, without it being named here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.candidate import Form
from pipeline.data.dataset import checked
from pipeline.errors import PipelineError, RecipeRefused
from pipeline.find_recipe import recipe_names
from pipeline.recipe import Recipe, recipe_named
from pipeline.store import digest_of, settings_of
from targets.find import target_names


@pytest.fixture(params=recipe_names())
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return recipe_named(request.param)


def test_at_least_3_recipes_are_found() -> None:
    assert len(recipe_names()) >= 3  # an empty listing would pass every other test


def test_a_recipe_is_named_as_its_file_and_says_in_1_line_what_it_is(recipe: Recipe) -> None:
    assert recipe.name in recipe_names()
    assert recipe.summary
    assert "\n" not in recipe.summary


def test_its_stages_fit_and_end_with_an_engine(recipe: Recipe) -> None:
    forms = [Form.TORCH, *(stage.gives for stage in recipe.stages)]
    assert [stage.takes for stage in recipe.stages] == forms[:-1]
    assert forms[-1] is Form.ENGINE
    assert len({stage.name for stage in recipe.stages}) == len(recipe.stages)


def test_every_limit_says_which_recipe_it_comes_from(recipe: Recipe) -> None:
    assert [limit.origin for limit in recipe.budget.limits] == [f"recipe {recipe.name}"] * len(recipe.budget.limits)


def test_a_stage_left_out_or_put_last_is_refused_when_the_recipe_is_written(recipe: Recipe) -> None:
    with pytest.raises(RecipeRefused):
        Recipe(recipe.name, recipe.data, recipe.teacher, recipe.stages[:-1])
    with pytest.raises(RecipeRefused):
        Recipe(recipe.name, recipe.data, recipe.teacher, tuple(reversed(recipe.stages)))
    with pytest.raises(RecipeRefused):
        Recipe(recipe.name, recipe.data, recipe.teacher, ())


def test_its_settings_are_json_and_2_readings_have_1_digest(recipe: Recipe) -> None:
    json.dumps(settings_of(recipe), allow_nan=False)
    assert digest_of(recipe) == digest_of(recipe_named(recipe.name))
    assert "0x" not in json.dumps(settings_of(recipe))  # an address in memory would be another in every run


def test_its_networks_answer_1_input_of_its_data_with_1_number_per_class(
    recipe: Recipe, tmp_path: Path, data_folder: Path
) -> None:
    try:
        data = checked(recipe.data(data_folder, cache=tmp_path))
    except PipelineError as error:
        pytest.skip(f"the data of recipe {recipe.name} is missing: {error}")
    factories = [each.factory for each in (recipe.teacher, recipe.student) if each is not None]
    for factory in factories:
        with torch.no_grad():
            answers = factory().eval()(torch.zeros(1, *data.input_shape))
        assert answers.shape == (1, data.classes)


def test_a_dry_run_prints_every_stage_and_writes_0_files(recipe: Recipe, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "--target", target_names()[0], "--recipe", recipe.name]
    ended = subprocess.run(
        [*command, "--dry-run", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    told = json.dumps(json.loads(ended.stdout))
    assert all(f'"{stage.name}"' in told for stage in recipe.stages)
    assert list(tmp_path.iterdir()) == []
