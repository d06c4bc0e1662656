"""`kawan-usaha rebuild`, `learn` and `plan`: the whole recipe."""

from typing import Annotated

import typer
from annotated_types import Ge, Gt

from flows.commands.numbers import decimal, integer
from flows.commands.output import AS_JSON, show
from flows.commands.words import typed
from flows.stage_names import STAGES, StageName

Recipe = Annotated[
    str, typer.Argument(help="A YAML file, or the name of a recipe that comes with the project.")
]

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="A field of the recipe that this run changes, as in finetune.epochs=2; repeatable.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    for command in (rebuild, learn, plan):
        app.command()(command)


def rebuild(
    recipe: Recipe,
    *,
    from_stage: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="STAGE",
            help="The first stage that may do work; all before it must be finished.",
        ),
    ] = STAGES[0],
    until: Annotated[
        str, typer.Option(metavar="STAGE", help=f"The last stage, of {', '.join(STAGES)}.")
    ] = STAGES[-1],
    override_gate: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="The reason to release a model that its gate refuses.",
            callback=typed,
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Build, prove, publish and serve what a recipe says. What is done already is not done again.

    Runs with the Prefect server that PREFECT_API_URL names, or with a temporary one of its own.
    With `--from` nothing before that stage is made: where something of it is missing the run is
    refused, and says what. The reason of `--override-gate` is recorded in the store and on the
    model card.

    Example: `kawan-usaha rebuild demo --until evaluate --set finetune.max_steps=4`
    """
    from tasks.core.recipe.file import find_recipe, load_recipe
    from tasks.core.recipe.overrides import overridden

    first, last, changes = _stage(from_stage), _stage(until), _texts(overrides)
    found = load_recipe(find_recipe(recipe))
    wanted = overridden(found, changes)  # refused now, before anything is started

    from flows.run_log import run_shown

    with run_shown(wanted.name, quiet=as_json):
        from flows.server import begin_server

        wait_for_server = begin_server()
        from flows.lifecycle import rebuild as flow
        from flows.report import RebuildReport, as_plain, as_text

        wait_for_server()
        result = flow(
            found,
            from_stage=first,
            until=last,
            overrides=changes,
            override_gate=override_gate,
            return_state=True,
        ).result()
    if not isinstance(result, RebuildReport):
        raise TypeError(f"the flow returned {result!r}")
    show(as_plain(result), as_json=as_json, text=as_text(result))


def learn(
    recipe: Annotated[str, typer.Argument(help="The name of a released recipe, or its file.")],
    *,
    deployment: Annotated[
        str, typer.Option(help="Whose conversations are learned; by default the recipe's own.")
    ] = "",
    min_new: Annotated[
        int,
        integer(
            "So many new accepted answers are worth a training; with 0 also a set that has only "
            "lost some.",
            Ge(0),
        ),
    ] = 50,
    max_ratio: Annotated[
        float,
        decimal("Highest perplexity on reviewed conversations, against the release.", Gt(0)),
    ] = 1.0,
    overrides: Overrides = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Train a released recipe with what was reviewed since; release it if it is better.

    Otherwise a page says why not, by topic. The same reviewed set is learned once.

    Example: `kawan-usaha learn demo --min-new 10`
    """
    from flows.run_log import run_shown

    changes = _texts(overrides)
    with run_shown(recipe.replace("/", "-"), quiet=as_json):
        from flows.server import begin_server

        wait_for_server = begin_server()
        from flows.learn import learn as flow
        from flows.report import RebuildReport, as_plain, as_text

        wait_for_server()
        state = flow(
            recipe,
            deployment=deployment,
            min_new=min_new,
            max_ratio=max_ratio,
            overrides=changes,
            return_state=True,
        )
        result = state.result()
    if isinstance(result, RebuildReport):
        show(as_plain(result), as_json=as_json, text=as_text(result))
    else:
        show({"skipped": state.message}, as_json=as_json, text=str(state.message))


def plan(
    recipe: Recipe,
    gpus: Annotated[
        str | None,
        typer.Option(help="Plan for these instead of what is here: 2xL4, 1xRTX4090, 2x24GiB."),
    ] = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Say beforehand what a recipe needs of disk, memory and time, and whether it fits.

    Example: `kawan-usaha plan kawan-usaha-13b --gpus 2xL4`
    """
    from tasks.core.home import home
    from tasks.core.hub.download.sources import Sources
    from tasks.core.planning.text import plan_text
    from tasks.core.preflight.checks import check_inputs, check_keys, require_own_template
    from tasks.core.preflight.plan import plan_of
    from tasks.core.recipe.file import find_recipe, load_recipe, located
    from tasks.core.recipe.overrides import overridden

    wanted = located(overridden(load_recipe(find_recipe(recipe)), _texts(overrides)))
    check_inputs(wanted)
    check_keys(wanted)
    sources = Sources.of(wanted, home())
    require_own_template(wanted, sources)
    found = plan_of(wanted, home(), gpus=gpus, sources=sources)
    show(found.as_dict(), as_json=as_json, text=plan_text(found))


def _texts(overrides: list[str] | None) -> tuple[str, ...]:
    return tuple(typed(override) or "" for override in overrides or ())


def _stage(word: str) -> StageName:
    from tasks.core.errors import UsageError

    for stage in STAGES:
        if stage == word:
            return stage
    raise UsageError("No such stage.", expected=", ".join(STAGES), found=word)
