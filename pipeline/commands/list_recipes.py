"""`compress recipes`: the built-in recipes, or everything that one recipe sets."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.arguments import command_parser, flags_from
from pipeline.find_recipe import recipe_file, recipe_names
from pipeline.store import settings_of

if TYPE_CHECKING:  # it brings torch with it, which `--help` and a misspelt name need not wait for
    from pipeline.recipe import Recipe

EXAMPLES = """\
examples:
  compress recipes
  compress recipes digits            its data, its networks, its stages with every setting
  compress recipes ./my_recipe.py    the same for a file of yours, which is executed
"""


def list_recipes(arguments: Sequence[str]) -> int:
    """Run `compress recipes`; returns the exit code."""
    parser = command_parser("recipes", says="List the recipes, or show one.", examples=EXAMPLES)
    parser.add_argument("name", metavar="NAME", nargs="?", help="one recipe, or the path of a file of yours")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    flags = flags_from(parser, arguments)
    if flags.name:
        recipe_file(flags.name)  # refuses a name that does not exist
    from pipeline.recipe import recipe_named

    recipes = [recipe_named(name) for name in ([flags.name] if flags.name else recipe_names())]
    if flags.json:
        told = {"schema": 1, "recipes": [recipe_as_json(recipe) for recipe in recipes]}
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
    elif flags.name:
        sys.stdout.write(recipe_text(recipes[0]))
    else:
        sys.stdout.write("\n".join(summary_text(recipe) for recipe in recipes))
    return 0


def recipe_as_json(recipe: "Recipe") -> dict[str, Any]:
    """Everything a recipe sets."""
    return {
        "name": recipe.name,
        "summary": recipe.summary,
        "data": settings_of(recipe.data),
        "teacher": settings_of(recipe.teacher),
        "student": settings_of(recipe.student),
        "stages": [{"name": stage.name, "settings": settings_of(stage)} for stage in recipe.stages],
        "limits": [{"limit": each.name, "bound": each.bound, "origin": each.origin} for each in recipe.budget.limits],
    }


def summary_text(recipe: "Recipe") -> str:
    """A recipe in two lines."""
    return f"{recipe.name}: {recipe.summary or 'no summary'}\n  {' → '.join(s.name for s in recipe.stages)}\n"


def recipe_text(recipe: "Recipe") -> str:
    """A recipe in full."""
    limits = ", ".join(f"{each.name} {each.bound:g}" for each in recipe.budget.limits)
    rows = [
        ("data", as_call(settings_of(recipe.data))),
        ("teacher", as_call(settings_of(recipe.teacher))),
        ("student", as_call(settings_of(recipe.student)) if recipe.student else "the teacher's own architecture"),
        *((stage.name, as_call(settings_of(stage), leave_out=("name", "limits"))) for stage in recipe.stages),
        *((f"{s.name} limit", f"{each.name} {each.bound:g}") for s in recipe.stages for each in s.limits.limits),
        ("budget", limits or "the target's own"),
    ]
    width = max(len(name) for name, _ in rows)
    return summary_text(recipe) + "\n" + "".join(f"{name.ljust(width)}  {text}\n" for name, text in rows)


def as_call(value: Any, *, leave_out: tuple[str, ...] = ()) -> str:
    """Settings as Python would write them: `Sgd(lr=0.1, momentum=0.9)`."""
    if isinstance(value, dict) and "is" in value:
        fields = {name: field for name, field in value.items() if name != "is" and name not in leave_out}
        if set(fields) == {"args", "kwargs"}:  # of a functools.partial
            given = [as_call(each) for each in fields["args"]]
            given += [f"{name}={as_call(each)}" for name, each in fields["kwargs"].items()]
        else:
            given = [f"{name}={as_call(each)}" for name, each in fields.items()]
        return f"{value['is']}({', '.join(given)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {as_call(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "(" + ", ".join(as_call(each) for each in value) + ")"
    return str(value)
