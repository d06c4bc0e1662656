"""`kawan-usaha data`: what a deployment has collected of the people who agreed."""

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
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Delete everything that a deployment has kept of a person, whether it runs or not.

    Answers, ratings, corrections and reviews. What a data set or a model already holds stays there.

    Example: `kawan-usaha data forget demo "6c6cb 5786f d4891 6cf41"`
    """
    from tasks.core.collected.keeper import Keeper, Limits
    from tasks.core.errors import UsageError
    from tasks.core.home import home
    from tasks.core.recipe_deploy import Collect
    from tasks.core.serving.state import state_directory

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
    deleted = sum(keeper.forget(user) for user in {person, "".join(person.split())})
    answers = "answer" if deleted == 1 else "answers"
    show(
        {"deployment": deployment, "deleted": deleted},
        as_json=as_json,
        text=f"{deleted} {answers} of this person deleted from {state.collected}.",
    )
