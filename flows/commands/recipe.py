"""`kawan-usaha recipe`: the schema of recipes, a new one, and one with every default filled in."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from flows.command_line.output import AS_JSON, output_file, show
from flows.command_line.recipe_options import (
    SCHEMA_FILE,
    Overrides,
    RecipeArgument,
    override_texts,
)
from tasks.core.files.durable import write_atomically
from tasks.core.files.output import require_new_file

app = typer.Typer(
    no_args_is_help=True,
    help="Begin a recipe, check one and fill in its defaults, describe them to an editor.",
)


def _new_file(file: Path) -> Path:
    require_new_file(file)
    return file


@app.command()
def schema(
    out: Annotated[Path | None, output_file("Write it into this file.")] = None,
) -> None:
    """Print the JSON schema of recipes, with which an editor completes and checks them.

    Example: `kawan-usaha recipe schema --out recipe.schema.json`
    """
    from flows.actions.recipe import schema_text

    text = schema_text()
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
    from flows.actions.recipe import write_recipe

    write_recipe(file, source, with_schema=with_schema)
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
    from flows.actions.recipe import resolved

    found = resolved(recipe, override_texts(overrides))
    show(found.as_plain(), as_json=as_json, text=found.as_yaml())
