"""The recipe of the last release, as it was built: what a run of `learn` begins with.

A record keeps it as plain values, so that one of an earlier version of this program can always be
read; only whoever wants to build it again holds it against the fields of today. Paths of data that
come with the project are kept relative to it.
"""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import JsonValue, ValidationError

from tasks.core.errors import RecipeError
from tasks.core.home import RESOURCES
from tasks.core.hub.download.dataset import recorded_name
from tasks.core.recipe import Recipe, Source
from tasks.core.recipe.data import DataSource
from tasks.core.recipe.file import CORRECT, mistakes
from tasks.core.store.runs import RunRecords

S = TypeVar("S", Source, DataSource)


def at_commits(recipe: Recipe, commits: Mapping[str, str]) -> Recipe:
    """Return the recipe with the commits of a run, as its record names them, for its revisions.

    So whoever builds it later builds on the same base and data, wherever a branch has moved.
    """

    def at(source: S, name: str) -> S:
        commit = commits.get(name) if source.repo is not None else None
        return source if commit is None else source.model_copy(update={"revision": commit})

    changes: dict[str, object] = {"base": at(recipe.base, str(recipe.base))}
    if recipe.delta is not None:
        changes["delta"] = at(recipe.delta, str(recipe.delta))
    if recipe.finetune is not None:
        data = tuple(at(each, recorded_name(each)) for each in recipe.finetune.data)
        changes["finetune"] = recipe.finetune.model_copy(update={"data": data})
    return recipe.model_copy(update=changes)


def kept(recipe: Recipe) -> dict[str, JsonValue]:
    """Return the recipe as a record keeps it; its paths must be whole (`recipe_file.located`)."""
    plain: dict[str, JsonValue] = recipe.model_dump(mode="json")
    found = _relative(plain)
    if not isinstance(found, dict):
        raise TypeError("a recipe is a mapping")
    return found


def released_recipe(records: RunRecords, name: str) -> Recipe:
    """Return the recipe of the last release of this name, at the commits that it was built from.

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
        released = Recipe.model_validate(record.released_recipe)
    except ValidationError as error:
        raise RecipeError(
            "The recipe of the last release does not fit this version.",
            where=str(record),
            found=mistakes(error),
            next_step=f"{CORRECT} Then `kawan-usaha rebuild {name}` once more.",
        ) from error
    return at_commits(released, record.commits)


def _relative(value: JsonValue) -> JsonValue:
    root = f"{RESOURCES}/"
    if isinstance(value, str):
        return value.removeprefix(root)
    if isinstance(value, list):
        return [_relative(each) for each in value]
    if isinstance(value, dict):
        return {name: _relative(each) for name, each in value.items()}
    return value
