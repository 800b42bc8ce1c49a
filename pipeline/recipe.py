"""Which stages, in which order, with which settings, on which data: a recipe is a Python file with a `RECIPE` in it.

A recipe checks that its stages fit when it is written, not an hour into the run.
"""

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pipeline.candidate import Form
from pipeline.data.dataset import DataSource
from pipeline.errors import RecipeRefused
from pipeline.find_recipe import recipe_file
from pipeline.stage import Metric, Stage
from pipeline.stages.teach import Network, Teacher
from targets.accuracy import top1
from targets.budget import Budget


@dataclass(frozen=True)
class Recipe:
    """The journey of one network.

    student: None to go on with the teacher's own architecture · metric: (outputs, labels) → a score in 0..1 per input
    budget: overrides the target's, limit by limit
    """

    name: str
    data: DataSource
    teacher: Teacher
    stages: tuple[Stage, ...]
    student: Network | None = None
    metric: Metric = top1
    budget: Budget = Budget()
    summary: str = ""

    def __post_init__(self) -> None:
        if not self.stages:
            raise RecipeRefused(f"recipe {self.name!r} has no stages.")
        form, before = Form.TORCH, "the teacher"
        for stage in self.stages:
            if stage.takes is not form:
                raise RecipeRefused(
                    f"recipe {self.name!r}: stage {stage.name!r} takes {stage.takes.value}, but {before} gives "
                    f"{form.value}. The order is distill, prune, quantize, export, build; leave out what you do not "
                    "need."
                )
            form, before = stage.gives, f"stage {stage.name!r}"
        if form is not Form.ENGINE:
            raise RecipeRefused(
                f"recipe {self.name!r} ends with {form.value}, not with an engine: end it with Build()."
            )
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise RecipeRefused(
                f"recipe {self.name!r} has two stages of one name ({', '.join(names)}): give one a name=."
            )


def recipe_named(name: str) -> Recipe:
    """A built-in recipe by name, or the user's own by the path of its file, which is executed.

    Raises:
        RecipeRefused: there is no such recipe or file, or the file fails, or it has no RECIPE.
    """
    path = recipe_file(name)
    if path is not None:
        module = _module_at(path)
    else:
        module = importlib.import_module(f"pipeline.recipes.{name.replace('-', '_')}")
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise RecipeRefused(f"{name} has no RECIPE = Recipe(…) in it. `compress init` writes a file to start from.")
    return recipe


def _module_at(path: Path) -> ModuleType:
    path = path.resolve()
    for place in (str(Path.cwd()), str(path.parent)):  # a recipe may name modules beside it or where the user stands
        if place not in sys.path:
            sys.path.insert(0, place)
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RecipeRefused(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except RecipeRefused:
        raise
    except (Exception, SystemExit) as error:  # a file that calls sys.exit is no recipe either
        line = _line_in(path, error)
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise RecipeRefused(
            f"{path}{line} failed: {type(error).__name__}: {said.rstrip('.')}. "
            "Repair it, or start anew with `compress init`."
        ) from error
    return module


def _line_in(path: Path, error: BaseException) -> str:
    trace, line = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = f", line {trace.tb_lineno},"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.lineno:
        line = f", line {error.lineno},"
    return line
