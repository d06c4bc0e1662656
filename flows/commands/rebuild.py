"""`kawan-usaha rebuild`."""

from typing import Annotated

import typer

from flows.command_line.flow_runs import run_rebuild
from flows.command_line.output import AsJson
from flows.command_line.recipe_options import Overrides, RecipeArgument, override_texts
from flows.command_line.text_input import require_text
from flows.stage_names import STAGES, StageName
from tasks.core.errors import UsageError
from tasks.core.recipe.file import find_recipe, load_recipe
from tasks.core.recipe.overrides import overridden


def rebuild(
    recipe: RecipeArgument,
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
            callback=require_text,
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Build, prove, publish and serve what a recipe describes; finished stages are reused.

    Uses the Prefect server that PREFECT_API_URL names, or a temporary one. With `--from`, no stage
    before that one is run: if a result is missing, the run is refused and names it. The reason for
    `--override-gate` is recorded in the store and on the model card.

    Example: `kawan-usaha rebuild demo --until evaluate --set finetune.max_steps=4`
    """
    first, last, changes = _stage(from_stage), _stage(until), override_texts(overrides)
    found = load_recipe(find_recipe(recipe))
    wanted = overridden(found, changes)  # refused now, before anything is started
    run_rebuild(
        found,
        from_stage=first,
        until=last,
        overrides=changes,
        override_gate=override_gate,
        name=wanted.name,
        as_json=as_json,
    )


def _stage(word: str) -> StageName:
    for stage in STAGES:
        if stage == word:
            return stage
    raise UsageError("No such stage.", expected=", ".join(STAGES), found=word)
