"""docs/recipe.md, made from the recipe's own titles and descriptions.

`python -m tests.contracts.recipe_doc > docs/recipe.md` writes it anew; a test holds it to that.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Literal, Union, get_args, get_origin

from pydantic import BaseModel

from tasks.core.recipe import Recipe


def render() -> str:
    """Return the page: a table of fields for the recipe and for each of its parts."""
    lines = [
        "# The recipe, field by field",
        "",
        "A YAML file; `data/recipes/` holds examples. Unknown fields are refused, with the name",
        "that was probably meant. A stage that is left out is not run. Relative paths are looked",
        "up from where the command runs, then from the project. This page is made from the code.",
        "",
        "One run can change single fields without another file: `kawan-usaha rebuild demo --set",
        "finetune.epochs=2`, also of `plan`, or Overrides in the form of Prefect's UI. A field is",
        "named by its path, such as `evaluate.gate.max_perplexity`; the value is YAML, so",
        "`deploy=` leaves that stage out and `'edit.activations=[{layers: all}]'` sets a list as a",
        "whole. What comes out is checked like a file. The overrides of a run stand in its record,",
        "its plan and its report.",
        "",
    ]
    for name, model in _models(Recipe, "recipe", set()):
        lines += [f"## `{name}`", "", (model.__doc__ or "").strip().split("\n\n")[0], ""]
        lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{field}` | {_type(info.annotation)} | {_default(info)} | {info.description} |"
            for field, info in model.model_fields.items()
        ]
        lines.append("")
    return "\n".join(lines)


def _models(
    model: type[BaseModel], name: str, seen: set[type[BaseModel]]
) -> Iterator[tuple[str, type[BaseModel]]]:
    if model in seen:
        return
    seen.add(model)
    yield name, model
    for field, info in model.model_fields.items():
        for inner in _inner(info.annotation):
            path = field if name == "recipe" else f"{name}.{field}"
            yield from _models(inner, path, seen)


def _inner(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for part in get_args(annotation) for inner in _inner(part)]


def _type(annotation: object) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join("nothing" if p is type(None) else _type(p) for p in parts)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "fields below"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "yes or no"}.get(
        getattr(annotation, "__name__", ""),
        getattr(annotation, "__name__", str(annotation)).lower(),
    )


def _default(info: object) -> str:
    if info.is_required():  # type: ignore[attr-defined]
        return "required"
    value = info.get_default(call_default_factory=True)  # type: ignore[attr-defined]
    if value is None:
        return ""
    if isinstance(value, BaseModel) or (
        isinstance(value, tuple) and value and isinstance(value[0], BaseModel)
    ):
        return "as below"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value.as_posix() if isinstance(value, Path) else value}`"


if __name__ == "__main__":
    sys.stdout.write(render())
