"""`kawan-usaha rebuild` and `plan`: the whole recipe."""

import os
from typing import Annotated, get_args

import typer

from flows.commands.output import AS_JSON, show
from flows.commands.words import typed
from flows.pools import HEARTBEAT_S
from flows.until import Until

Recipe = Annotated[
    str, typer.Argument(help="A YAML file, or the name of a recipe that comes with the project.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    for command in (rebuild, plan):
        app.command()(command)


def rebuild(
    recipe: Recipe,
    until: Annotated[
        str, typer.Option(help="The last stage: plan, download, merge, edit, fuse, evaluate …")
    ] = "deploy",
    force: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Release a model that its gate refuses, and why.",
            callback=typed,
        ),
    ] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Build, prove, publish and serve what a recipe says. What is done already is not done again.

    Runs with the Prefect server that PREFECT_API_URL names, or with a temporary one of its own.
    The reason of `--force` is recorded in the store and on the model card.

    Example: `kawan-usaha rebuild demo`
    """
    from tasks.core.errors import UsageError
    from tasks.core.recipe_file import find_recipe, load_recipe

    last = next((stage for stage in get_args(Until) if stage == until), None)
    if last is None:
        raise UsageError("No such stage.", expected=", ".join(get_args(Until)), found=until)
    wanted = load_recipe(find_recipe(recipe))
    _prepare_prefect()
    if wanted.hub == "embedded":  # read by huggingface_hub once, when it is imported
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

    from flows.run_log import run_shown

    with run_shown(wanted.name, quiet=as_json):
        from flows.server import begin_server

        wait_for_server = begin_server()
        from flows.lifecycle import rebuild as flow
        from flows.report import RebuildReport, as_plain, as_text

        wait_for_server()
        result = flow(wanted, last, force, return_state=True).result()
    if not isinstance(result, RebuildReport):
        raise TypeError(f"the flow returned {result!r}")
    show(as_plain(result), as_json=as_json, text=as_text(result))


def plan(
    recipe: Recipe,
    gpus: Annotated[
        str | None,
        typer.Option(help="Plan for these instead of what is here: 2xL4, 1xRTX4090, 2x24GiB."),
    ] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Say beforehand what a recipe needs of disk, memory and time, and whether it fits.

    Example: `kawan-usaha plan kawan-usaha-13b --gpus 2xL4`
    """
    from tasks.core.home import home
    from tasks.core.planning.render import render
    from tasks.core.recipe_file import find_recipe, load_recipe, located
    from tasks.plan import check_inputs, plan_of

    wanted = located(load_recipe(find_recipe(recipe)))
    check_inputs(wanted)
    found = plan_of(wanted, home(), gpus=gpus)
    show(found.as_dict(), as_json=as_json, text=render(found))


def _prepare_prefect() -> None:
    """Set what Prefect reads when it is imported; what the user has set stays."""
    settings = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "INFO",
        # A server of `prefect up` takes a run that is silent for longer to be dead.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # a thread of ours has no run
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
