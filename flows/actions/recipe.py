"""Describe recipes to an editor, begin a new one, and fill in the defaults of one."""

import json
from pathlib import Path

from flows.command_line.recipe_options import SCHEMA_FILE
from tasks.core.files.durable import write_atomically
from tasks.core.files.output import require_new_file
from tasks.core.recipe.annotated import annotated
from tasks.core.recipe.file import find_recipe, load_recipe, recipe_content, recipe_of
from tasks.core.recipe.overrides import overridden
from tasks.core.recipe.resolved import Resolved
from tasks.core.recipe.schema import recipe_schema


def schema_text() -> str:
    """Return the JSON schema of recipes."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


def write_recipe(file: Path, source: str, *, with_schema: bool) -> None:
    """Write the recipe `source` with a comment for every field; if asked, the schema beside it."""
    text = annotated(load_recipe(find_recipe(source)))
    if with_schema:
        _write_schema(file.with_name(SCHEMA_FILE))
        text = f"# yaml-language-server: $schema={SCHEMA_FILE}\n{text}"
    write_atomically(file, text)


def resolved(recipe: str, changes: tuple[str, ...]) -> Resolved:
    """Return a recipe with these changes and every default. Raises RecipeError for a wrong one."""
    path = find_recipe(recipe)
    content = recipe_content(path)
    found = overridden(recipe_of(content, path), changes)
    fields = tuple(each.partition("=")[0] for each in changes)
    return Resolved(found, content, fields)


def _write_schema(path: Path) -> None:
    """Write the schema beside a recipe; one that is the same may be there already."""
    text = schema_text()
    if path.is_file() and path.read_bytes() == text.encode():
        return
    require_new_file(path)
    write_atomically(path, text)
