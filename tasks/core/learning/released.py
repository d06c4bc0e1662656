"""The recipe of the last release, from which a run of `learn` starts.

A run record keeps it as plain values, so that records of earlier versions stay readable; it is
validated only to be built again. Paths inside the project are kept relative to it.
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
    """Return the recipe with its revisions replaced by the commits that a run recorded.

    A later build then uses the same base and data, even if a branch has moved.
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


def recorded_recipe(recipe: Recipe) -> dict[str, JsonValue]:
    """Return the recipe as plain values for a record; its paths must be absolute (`located`)."""
    plain: dict[str, JsonValue] = recipe.model_dump(mode="json")
    found = _relative(plain)
    if not isinstance(found, dict):
        raise TypeError("a recipe is a mapping")
    return found


def released_recipe(records: RunRecords, name: str) -> Recipe:
    """Return the recipe of the last release with this name, at the commits it was built from.

    Raises RecipeError if nothing was released, if the release recorded no recipe (made by an
    earlier version), or if the recorded recipe is no longer valid.
    """
    record = records.last_release(name)
    if record is None:
        raise RecipeError(
            "Nothing has been released from this recipe, so there is no model to train further.",
            where=name,
            next_step=f"Release it first: `kawan-usaha rebuild {name}`.",
        )
    if record.released_recipe is None:
        raise RecipeError(
            "The last release does not record its recipe: an earlier version made it.",
            where=str(record),
            next_step=f"Run `kawan-usaha rebuild {name}` once more: finished stages are reused.",
        )
    try:
        released = Recipe.model_validate(record.released_recipe)
    except ValidationError as error:
        raise RecipeError(
            "The recipe of the last release is not valid in this version.",
            where=str(record),
            found=mistakes(error),
            next_step=f"{CORRECT} Then run `kawan-usaha rebuild {name}` once more.",
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
