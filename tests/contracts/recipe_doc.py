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
        "A recipe is a YAML file; `data/recipes/` has examples. An unknown field is refused with",
        "the name that was probably meant. A stage that is left out is not run. Relative paths are",
        "resolved in the working directory, then in the project. This page, the form of Prefect's",
        "UI and the commands below are made from the same descriptions in the code.",
        "",
        "- `kawan-usaha recipe new mine.yaml --from demo --schema` writes a recipe with a comment",
        "  for every field. With `--schema` an editor completes it and marks mistakes, if it has",
        "  yaml-language-server, such as VS Code with the YAML extension.",
        "- `kawan-usaha recipe show mine.yaml` checks it, and prints it with every default filled",
        "  in, marked as such; `--json` gives a program the value and the origin of each field.",
        "- `kawan-usaha recipe schema` prints the JSON schema (2020-12) by itself.",
        "",
        "One run can change single fields without another file: `kawan-usaha rebuild demo --set",
        "finetune.epochs=2`, also of `plan`, `learn` and `recipe show`, or Overrides in Prefect's",
        "form. A field is named by its path, such as `evaluate.gate.max_perplexity`. The value is",
        "YAML: `deploy=` leaves that stage out, `'edit.activations=[{layers: all}]'` replaces a",
        "list. The result is checked like a file. A run's record, plan and report name its",
        "overrides.",
        "",
    ]
    for name, model in _models(Recipe, "recipe", set()):
        lines += [f"## `{name}`", "", " ".join((model.__doc__ or "").split("\n\n")[0].split()), ""]
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
