"""`kawan-usaha data`: what a deployment has collected of the people who agreed."""

from dataclasses import asdict
from typing import Annotated

import typer

from flows.commands.output import AS_JSON, show
from flows.commands.words import typed

Deployment = Annotated[str, typer.Argument(help="The deployment that collected it.")]


def add_to(data_app: typer.Typer) -> None:
    """Add the commands to `kawan-usaha data`."""
    data_app.command()(forget)


def forget(
    deployment: Deployment,
    person: Annotated[
        str,
        typer.Argument(
            help="The number that the page shows, or the field `user` of the requests.",
            callback=typed,
        ),
    ],
    *,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            help="The name of the API key that the requests came with, for an id that is another "
            "person's at another client; else it counts for all of them.",
        ),
    ] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Delete everything that a deployment has kept of a person, whether it runs or not.

    Answers, ratings, corrections and reviews; from the store, what was made of accepted answers.
    Models that have learned from them stay, and are named. Exit code 1 while a run is in progress:
    what the store holds then goes with the same command, once it has ended.

    Example: `kawan-usaha data forget demo "6c6cb 5786f d4891 6cf41"`
    """
    from flows.commands.data_forgotten import removed_unless_busy
    from tasks.core.collected.finding import clients_in
    from tasks.core.collected.keeper import Keeper, Limits
    from tasks.core.errors import UsageError
    from tasks.core.home import home
    from tasks.core.recipe.deploy import Collect
    from tasks.core.serving.state.directory import state_directory

    state = state_directory(home(), deployment)
    if not state.root.is_dir():
        raise UsageError(
            "There is no such deployment.",
            where=state.root,
            next_step="`kawan-usaha status` shows which there are.",
        )
    limits = Collect()
    keeper = Keeper(state.collected, Limits(limits.retention_days, limits.max_bytes))
    # The page shows its numbers in groups; another client's ids may have blanks of their own.
    users = {person, "".join(person.split())}
    clients = {"anybody", *clients_in(state.collected)} if key is None else {key}
    deleted = sum(keeper.forget(client, user) for client in clients for user in users)
    answers = "answer" if deleted == 1 else "answers"
    told = f"{deleted} {answers} of this person deleted from {state.collected}."
    removed, busy = removed_unless_busy()
    show(
        {
            "deployment": deployment,
            "deleted": deleted,
            **asdict(removed),
            "left": None if busy is None else busy.as_dict(),
        },
        as_json=as_json,
        text="\n".join([told, *removed.lines(), *([] if busy is None else [str(busy)])]),
    )
    if busy is not None:
        raise typer.Exit(1)
