"""Options that name a model: a directory, or a Hub repository with its revision."""

from pathlib import Path
from typing import Annotated

import typer

from tasks.core.errors import UsageError
from tasks.core.recipe import Source

TEMPLATE = typer.Option(
    help="FastChat's conversation template; by default the one that the model records as trained "
    "with, else vicuna_v1.1.",
    show_default=False,
)
SIGNED_BY = typer.Option(
    help="Refuse the model unless it was signed with the private key of this public one (PEM)."
)
MODEL_HELP = "A model directory, or a Hub repository as owner/name or owner/name@revision."
Model = Annotated[str, typer.Argument(help=MODEL_HELP)]
Template = Annotated[str | None, TEMPLATE]
SignedBy = Annotated[Path | None, SIGNED_BY]


def source_of(text: str, signed_by: Path | None = None) -> Source:
    """Return the source that the text names. Raises UsageError if it names none.

    signed_by is the public key whose signature it must carry.
    """
    if Path(text).is_dir():
        return Source(directory=Path(text), signed_by=signed_by)
    repo, _, revision = text.partition("@")
    try:
        return Source(repo=repo, revision=revision or "main", signed_by=signed_by)
    except ValueError as error:
        raise UsageError(
            "This is neither a directory nor the name of a Hub repository.",
            where=text,
            expected=MODEL_HELP,
            next_step="Check the path.",
        ) from error
