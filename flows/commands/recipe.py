"""`kawan-usaha recipe`: the schema of recipes, a new one, and one with every default filled in."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from flows.command_line.output import AS_JSON, output_file, show
from flows.command_line.recipe_options import Overrides, RecipeArgument, override_texts

app = typer.Typer(
    no_args_is_help=True,
    help="Begin a recipe, check one and fill in its defaults, describe them to an editor.",
)

SCHEMA_FILE = "recipe.schema.json"
"""The schema's name beside a recipe that refers to it."""


def _new_file(file: Path) -> Path:
    from tasks.core.errors import UsageError
    from tasks.core.files.output import require_file_place

    require_file_place(file)
    if file.exists() or file.is_symlink():
        raise UsageError(
            "This file exists already.",
            where=file,
            next_step="Name a new file, or remove this one first.",
        )
    return file


@app.command()
def schema(
    out: Annotated[Path | None, output_file("Write it into this file.")] = None,
) -> None:
    """Print the JSON schema of recipes, with which an editor completes and checks them.

    Example: `kawan-usaha recipe schema --out recipe.schema.json`
    """
    from tasks.core.files.durable import write_atomically

    text = _schema_text()
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(out, text)
        typer.echo(f"{out} is written.")


@app.command()
def new(
    file: Annotated[
        Path, typer.Argument(help="The new file. It must not exist yet.", callback=_new_file)
    ],
    *,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="RECIPE",
            help="The recipe to begin with: demo, kawan-usaha-13b, or a file.",
        ),
    ] = "demo",
    with_schema: Annotated[
        bool,
        typer.Option(
            "--schema", help=f"Write {SCHEMA_FILE} beside it too, which an editor then uses."
        ),
    ] = False,
) -> None:
    """Write a recipe with a comment for every field, to be changed by hand.

    Fields that the first recipe leaves out are commented out, with their defaults.

    Example: `kawan-usaha recipe new mine.yaml --from kawan-usaha-13b --schema`
    """
    from tasks.core.files.durable import write_atomically
    from tasks.core.recipe.annotated import annotated
    from tasks.core.recipe.file import find_recipe, load_recipe

    text = annotated(load_recipe(find_recipe(source)))
    if with_schema:
        _write_schema(file.with_name(SCHEMA_FILE))
        text = f"# yaml-language-server: $schema={SCHEMA_FILE}\n{text}"
    write_atomically(file, text)
    shown = shlex.quote(str(file))
    typer.echo(f"{file} is written. Check it with `kawan-usaha recipe show {shown}`.")


@app.command("show")
def show_recipe(
    recipe: RecipeArgument,
    *,
    overrides: Overrides = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Check a recipe, and print it with every default filled in.

    What its file does not say itself is marked: `# default`, or `# --set`. The output is a recipe.

    Example: `kawan-usaha recipe show demo --set finetune.epochs=2`
    """
    from tasks.core.recipe.file import find_recipe, recipe_content, recipe_of
    from tasks.core.recipe.overrides import overridden
    from tasks.core.recipe.resolved import Resolved

    changes = override_texts(overrides)
    path = find_recipe(recipe)
    content = recipe_content(path)
    found = overridden(recipe_of(content, path), changes)
    fields = tuple(each.partition("=")[0] for each in changes)
    resolved = Resolved(found, content, fields)
    show(resolved.as_plain(), as_json=as_json, text=resolved.as_yaml())


def _schema_text() -> str:
    from tasks.core.recipe.schema import recipe_schema

    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


def _write_schema(path: Path) -> None:
    """Write the schema beside a recipe; one that is the same may be there already."""
    from tasks.core.files.durable import write_atomically

    text = _schema_text()
    if path.is_file() and path.read_bytes() == text.encode():
        return
    write_atomically(_new_file(path), text)
