"""The recipe of a command, and the changes of its fields."""

from typing import Annotated

import typer

from flows.command_line.text_input import require_text

RecipeArgument = Annotated[
    str, typer.Argument(help="A YAML file, or the name of a recipe that comes with the project.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="A field of the recipe to change in this run, as in finetune.epochs=2; repeatable.",
    ),
]

SCHEMA_FILE = "recipe.schema.json"
"""The schema's name beside a recipe that refers to it."""


def override_texts(overrides: list[str] | None) -> tuple[str, ...]:
    """Return the given overrides. Raises UsageError for one that is not text."""
    return tuple(require_text(override) or "" for override in overrides or ())
