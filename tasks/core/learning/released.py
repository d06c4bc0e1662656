"""The recipe of the last release, as it was built: what a run of `learn` begins with.

A record keeps it as plain values, so that one of an earlier version of this program can always be
read; only whoever wants to build it again holds it against the fields of today. Paths of data that
come with the project are kept relative to it.
"""

from pydantic import JsonValue, ValidationError

from tasks.core.errors import RecipeError
from tasks.core.home import PROJECT
from tasks.core.recipe import Recipe
from tasks.core.recipe_file import CORRECT, mistakes
from tasks.core.store.runs import RunRecords


def kept(recipe: Recipe) -> dict[str, JsonValue]:
    """Return the recipe as a record keeps it; its paths must be whole (`recipe_file.located`)."""
    plain: dict[str, JsonValue] = recipe.model_dump(mode="json")
    found = _relative(plain)
    if not isinstance(found, dict):
        raise TypeError("a recipe is a mapping")
    return found


def released_recipe(records: RunRecords, name: str) -> Recipe:
    """Return the recipe of the last release of this name.

    Raises RecipeError where nothing was released, or by a version that kept no recipe with it, or
    where what it kept fits no longer.
    """
    record = records.last_release(name)
    if record is None:
        raise RecipeError(
            "Nothing was released of this recipe, so there is nothing to learn on.",
            where=name,
            next_step=f"Release it first: `kawan-usaha rebuild {name}`.",
        )
    if record.released_recipe is None:
        raise RecipeError(
            "The last release does not say which recipe it was built by: an earlier version made "
            "it.",
            where=str(record),
            next_step=f"`kawan-usaha rebuild {name}` once more: what is done is reused.",
        )
    try:
        return Recipe.model_validate(record.released_recipe)
    except ValidationError as error:
        raise RecipeError(
            "The recipe of the last release does not fit this version.",
            where=str(record),
            found=mistakes(error),
            next_step=f"{CORRECT} Then `kawan-usaha rebuild {name}` once more.",
        ) from error


def _relative(value: JsonValue) -> JsonValue:
    root = f"{PROJECT}/"
    if isinstance(value, str):
        return value.removeprefix(root)
    if isinstance(value, list):
        return [_relative(each) for each in value]
    if isinstance(value, dict):
        return {name: _relative(each) for name, each in value.items()}
    return value
