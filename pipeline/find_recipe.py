"""The names of the recipes, without importing one: a misspelt name is answered before torch is loaded."""

from pathlib import Path

from pipeline import recipes
from pipeline.errors import RecipeRefused, nearest


def recipe_names() -> tuple[str, ...]:
    """The built-in recipes, by listing their folder."""
    folder = Path(str(recipes.__file__)).parent
    return tuple(sorted(path.stem.replace("_", "-") for path in folder.glob("*.py") if path.stem != "__init__"))


def recipe_file(name: str) -> Path | None:
    """The user's own file that `name` is the path of, or None for the name of a built-in recipe.

    Raises:
        RecipeRefused: there is no such file, or no recipe of that name.
    """
    if name.endswith(".py") or "/" in name:
        if not Path(name).is_file():
            raise RecipeRefused(f"there is no recipe file {name}. `compress init` writes one to start from.")
        return Path(name)
    if name not in recipe_names():
        raise RecipeRefused(
            nearest(name, recipe_names(), kind="recipe") + " Or give the path of a recipe file of yours."
        )
    return None
