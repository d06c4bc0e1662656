"""`kawan-usaha data forget`."""

from dataclasses import asdict
from typing import Annotated

import typer

from flows.command_line.output import AsJson, show
from flows.command_line.text_input import require_text


def forget(
    deployment: Annotated[str, typer.Argument(help="The deployment that collected the answers.")],
    person: Annotated[
        str,
        typer.Argument(
            help="The number that the page shows, or the `user` field of the requests.",
            callback=require_text,
        ),
    ],
    *,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            help="The name of the API key of the requests, if other clients use the same ID for "
            "other people; by default the ID is deleted for all keys.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Delete everything that a deployment has kept of a person, whether it is running or not.

    Deletes answers, ratings, corrections and reviews, and what was built from accepted answers in
    the store. Models that have learned from them stay, and are listed. Exit code 1 while a run is
    in progress: run the command again once it has ended, to clear the store.

    Example: `kawan-usaha data forget demo "6c6cb 5786f d4891 6cf41"`
    """
    from flows.actions.forget import delete_answers, delete_from_store

    deleted = delete_answers(deployment, person, key)
    removed, busy = delete_from_store()
    result = {
        "deployment": deployment,
        "deleted": deleted.answers,
        **asdict(removed),
        "left": None if busy is None else busy.as_dict(),
    }
    lines = [str(deleted), *removed.lines(), *([] if busy is None else [str(busy)])]
    show(result, as_json=as_json, text="\n".join(lines))
    if busy is not None:
        raise typer.Exit(1)
