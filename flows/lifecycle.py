"""The flows `rebuild` and `rebuild-recipe`: from a recipe to a served model, reusing results."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.form import FirstStage, GateReason, LastStage, Overrides, RecipeName, WholeRecipe
from flows.leftovers import close_tasks_of_earlier_attempts
from flows.notices import of_failure, of_success
from flows.overlap import skipped
from flows.report import RebuildReport, publish_report, summary
from flows.stage_names import STAGES, StageName, stages_before, stages_between
from flows.training_data import brought_data
from tasks.core.demo.recipe_hub import hub_of
from tasks.core.errors import GateFailed, KawanUsahaError, StageMissing, UsageError
from tasks.core.evaluation.figures import Role
from tasks.core.home import home
from tasks.core.hub.download.incoming import Coming
from tasks.core.hub.download.upstream import Sources
from tasks.core.keys import digest
from tasks.core.learning.released import kept
from tasks.core.process.stopping import stop_in_time
from tasks.core.recipe import KAWAN_USAHA, Recipe
from tasks.core.recipe.file import find_recipe, load_recipe, located
from tasks.core.recipe.overrides import overridden
from tasks.core.serving.state.files import used_builds
from tasks.core.signing import configured_key
from tasks.core.store import RunStore, Store, configured_remote
from tasks.core.store.releases import take_releases
from tasks.core.store.repetitions import forget_repetitions
from tasks.core.store.runs import RunRecords
from tasks.deploy import deploy
from tasks.download import download_all
from tasks.edit import edit
from tasks.evaluate import evaluate, gate, release_before, verdict_of
from tasks.finetune import finetune
from tasks.fuse import fuse
from tasks.leaks import leaks as find_leaks
from tasks.leaks import overlap_in
from tasks.merge import merge
from tasks.notices import is_called, notify
from tasks.plan import preflight
from tasks.prepare import prepare
from tasks.publish import publish, signature_of
from tasks.runtime import attempt_of, explained_failure, known_failure, run, running
from tasks.stage_result import StageResult
from tasks.task_states import waits
from tasks.telling import flush

Chain = list[tuple[Role, StageResult]]


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
