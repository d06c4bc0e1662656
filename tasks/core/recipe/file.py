"""Recipes as YAML files: found by name or path, read, or refused with every mistake."""

import difflib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from tasks.core.errors import RecipeError
from tasks.core.files.given import read_given_text
from tasks.core.files.yaml_text import NotYaml, read_yaml
from tasks.core.home import RESOURCES
from tasks.core.recipe import Recipe
from tasks.core.recipe.data import DataSource
from tasks.core.recipe.fields import part_in
from tasks.core.recipe.part import RecipePart

RECIPES = RESOURCES / "data" / "recipes"
CORRECT = "Correct the fields above; docs/recipe.md lists them all."


def project_path(path: Path) -> Path:
    """Return where a relative path leads: from the working directory, else in the project."""
    return path if path.is_absolute() or path.exists() else RESOURCES / path


def given_path(path: Path) -> Path:
    """Return a path of a command line, or the project's own file where only that one exists."""
    own = project_path(path)
    return own if own.exists() else path


def located(recipe: Recipe) -> Recipe:
    """Return the recipe with the paths of its data and public keys made absolute."""
    own, judge = recipe.evaluate.benchmark_tasks, recipe.evaluate.judge
    if judge is not None and judge.ratings is not None:
        ratings = project_path(judge.ratings).absolute()
        judge = judge.model_copy(update={"ratings": ratings})
    evaluate = recipe.evaluate.model_copy(
        update={
            "conversations": project_path(recipe.evaluate.conversations).absolute(),
            "prompts": project_path(recipe.evaluate.prompts).absolute(),
            "benchmark_tasks": None if own is None else project_path(own).absolute(),
            "judge": judge,
        }
    )
    update: dict[str, object] = {"evaluate": evaluate}
    if recipe.finetune is not None:
        data = tuple(map(_located_source, recipe.finetune.data))
        update["finetune"] = recipe.finetune.model_copy(update={"data": data})
    for name in ("base", "delta", "publish", "deploy"):
        part = getattr(recipe, name)
        if part is not None and part.signed_by is not None:
            key = project_path(part.signed_by).absolute()
            update[name] = part.model_copy(update={"signed_by": key})
    return recipe.model_copy(update=update)


def _located_source(source: DataSource) -> DataSource:
    paths = {name: getattr(source, name) for name in ("file", "directory")}
    found = {name: project_path(path).absolute() for name, path in paths.items() if path}
    return source.model_copy(update=found)


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the project."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """Return the file of a recipe, given its path or the name of one in data/recipes.

    Raises RecipeError when there is neither.
    """
    for path in (Path(name), RECIPES / f"{name}.yaml"):
        if path.exists() and not path.is_dir():  # a stream will do: it is read once
            return path
    raise RecipeError(
        "There is no such recipe.",
        where=name,
        expected=f"a YAML file, or one of: {', '.join(recipe_names())}",
        next_step=_near(name, recipe_names())
        or "`kawan-usaha recipe new FILE` writes one to begin with.",
    )


def load_recipe(path: Path) -> Recipe:
    """Return the recipe in a YAML file.

    Raises RecipeError that names the line of broken YAML and of a repeated field, and otherwise
    every wrong field.
    """
    return recipe_of(recipe_content(path), path)


def recipe_content(path: Path) -> dict[str, object]:
    """Return what the file says, unchecked. Raises RecipeError unless it is a mapping of fields."""
    content = parsed(read_given_text(path, "The recipe", error=RecipeError), path)
    if not isinstance(content, dict):
        raise RecipeError(
            "The recipe is not a mapping of fields.",
            where=path,
            expected="`name: …`, `base: …` and the other stages",
            found=type(content).__name__,
        )
    return content


def recipe_of(content: dict[str, object], path: Path) -> Recipe:
    """Return the recipe that a file's content describes. Raises RecipeError with every mistake."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(
            "The recipe is wrong.",
            where=path,
            found=mistakes(error),
            next_step=CORRECT,
        ) from error


def parsed(text: str, where: Path | str, what: str = "The recipe") -> object:
    """Return the content of a YAML text. Raises RecipeError if it is broken or repeats a field."""
    try:
        content, repeated = read_yaml(text)
    except NotYaml as error:
        raise RecipeError(f"{what} is not valid YAML.", where=where, found=error) from error
    if repeated:
        raise RecipeError(
            f"{what} has fields that stand twice, and only one of each can be meant.",
            where=where,
            found="\n    ".join(["", *repeated]),
            next_step="Keep one of each.",
        )
    return content


def mistakes(error: ValidationError) -> str:
    """Return each wrong field and what is wrong with it, one per line."""
    return "\n    ".join(["", *_explain(error)])


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        place = [str(part) for part in problem["loc"]]
        name = ".".join(place)
        if problem["type"] == "extra_forbidden":
            known = _fields_beside(place)
            yield f"{name}: no such field. {_near(place[-1], known) or f'Known: {known}'}"
        else:
            yield f"{name or 'recipe'}: {problem['msg'].removeprefix('Value error, ')}"


def _fields_beside(place: list[str]) -> list[str]:
    """Return the names of the fields that are known at this place."""
    model: type[RecipePart] = Recipe
    for name in place[:-1]:
        field = model.model_fields.get(name)
        model = (part_in(field.annotation) if field else None) or model
    return list(model.model_fields)


def _near(word: str, known: list[str]) -> str | None:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else None
