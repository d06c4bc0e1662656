"""The flows `rebuild` and `rebuild-recipe`: from a recipe to a served model, reusing results."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.form import FirstStage, GateReason, LastStage, Overrides, RecipeName, WholeRecipe
from flows.rebuild.already_running import skipped_if_running
from flows.rebuild.end_states import failed_state
from flows.rebuild.request import RebuildRequest
from flows.rebuild.run import run_rebuild
from flows.rebuild.run_summary import RunSummary
from tasks.core.errors import KawanUsahaError
from tasks.core.recipe import KAWAN_USAHA
from tasks.core.recipe.file import find_recipe, load_recipe


@flow(name="rebuild", flow_run_name="{recipe.name}")
def rebuild(
    recipe: WholeRecipe = KAWAN_USAHA,
    *,
    from_stage: FirstStage = "plan",
    until: LastStage = "deploy",
    overrides: Overrides = (),
    override_gate: GateReason = "",
) -> State[RunSummary] | State[KawanUsahaError]:
    """Build, prove, publish and serve what the recipe describes; finished stages are reused.

    Args:
        recipe: The model, from its sources to its service. A stage that is left empty is not run.
            Paths are those of the machine that runs the flow.
        from_stage: The first stage that may do work; from there on, finished results are reused.
            Everything before it must be finished, or the run is refused and names what is missing.
            `plan` is the whole recipe.
        until: The last stage to run.
        overrides: Fields of the recipe that this run changes, one each, such as
            `finetune.epochs=2`, `base.revision=v1.1` or `deploy=` (omit the stage). Paths are those
            of the machine that runs the flow; docs/recipe.md lists the fields.
        override_gate: The reason to release a model that its gate refuses. It is recorded in the
            store and on the model card. Leave it empty to obey the gate.
    """
    return run_rebuild(RebuildRequest(recipe, from_stage, until, overrides, override_gate or None))


def _run_name() -> str:
    """Return the name of a run: its recipe, and its stage if it is a single one."""
    given = flow_run.parameters  # without those that a deployment leaves at the flow's defaults
    last = given.get("until")
    single = last if given.get("from_stage") == last else None
    return f"{given['recipe']}: {single}" if single else str(given["recipe"])


@flow(name="rebuild-recipe", flow_run_name=_run_name)
def rebuild_recipe(
    recipe: RecipeName = "kawan-usaha-13b",
    *,
    from_stage: FirstStage = "plan",
    until: LastStage = "deploy",
    overrides: Overrides = (),
    override_gate: GateReason = "",
) -> State[RunSummary] | State[KawanUsahaError] | State[None]:
    """Rebuild a recipe of data/recipes by its name, or of a YAML file by its path.

    Args:
        recipe: A recipe that comes with the project, or the path of a YAML file on the machine
            that runs the flow.
        from_stage: The first stage that may do work; from there on, finished results are reused.
            Everything before it must be finished, or the run is refused and names what is missing.
            `plan` is the whole recipe.
        until: The last stage to run.
        overrides: Fields of the recipe that this run changes, one each, such as
            `finetune.epochs=2`, `base.revision=v1.1` or `deploy=` (omit the stage). Paths are those
            of the machine that runs the flow; docs/recipe.md lists the fields.
        override_gate: The reason to release a model that its gate refuses. It is recorded in the
            store and on the model card. Leave it empty to obey the gate.
    """
    try:
        found = load_recipe(find_recipe(recipe))
    except KawanUsahaError as error:
        return failed_state(recipe, error)
    if (nothing_to_do := skipped_if_running(found.name)) is not None:
        return nothing_to_do
    return run_rebuild(RebuildRequest(found, from_stage, until, overrides, override_gate or None))
