"""Overrides: fields of a recipe that one run changes, such as `finetune.epochs=2`.

They come from Prefect's form or the command line. A value is YAML, so `publish=` leaves a stage
out and `edit.activations=[{layers: all}]` is a list. The result is checked as if it had been read
from a file; the file itself is not changed.
"""

import re
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from tasks.core.errors import RecipeError
from tasks.core.recipe import Recipe
from tasks.core.recipe.file import CORRECT, mistakes, parsed

PATTERN = r"^[a-z0-9_.]+="
"""The pattern of an override's beginning."""


def overridden(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return the recipe with these fields changed.

    Raises RecipeError for an override that is not `field=value`, for a field that is named twice or
    belongs to a stage that the recipe leaves out, and for values that the recipe refuses.
    """
    if not overrides:
        return recipe
    content = recipe.model_dump(exclude_unset=True)
    named: list[str] = []
    for override in overrides:
        field, value = _split(override)
        if field in named:
            raise RecipeError(
                "A field is overridden twice, and only one value can be meant.",
                where=field,
                next_step="Keep one of the two.",
            )
        named.append(field)
        _put(content, recipe, field, value)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(
            "The recipe is wrong with these overrides.",
            where=", ".join(named),
            found=mistakes(error),
            next_step=CORRECT,
        ) from error


def _split(override: str) -> tuple[str, object]:
    field, _, value = override.partition("=")
    if not re.match(PATTERN, override):
        raise RecipeError(
            "An override does not say which field gets which value.",
            expected="field=value, such as finetune.epochs=2",
            found=field,
            next_step="docs/recipe.md lists the fields.",
        )
    return field, parsed(value, field, "The value")


def _put(content: dict[str, object], recipe: Recipe, field: str, value: object) -> None:
    """Set a field of nested mappings. An unknown field is left to the recipe's own check."""
    *parents, last = field.split(".")
    part: object = recipe
    for name in parents:
        known = isinstance(part, BaseModel) and name in type(part).model_fields
        part = getattr(part, name, None) if known else None
        inner = content.get(name)
        if known and part is None and inner is None:
            raise RecipeError(
                "The recipe leaves out what an override would change.",
                where=field,
                found=f"no {name}",
                next_step=f"Give all that it needs at once: {name}={{{last}: …}}.",
            )
        below = dict(inner) if isinstance(inner, dict) else {}
        content[name] = below
        content = below
    content[last] = value
