"""Run a rebuild inside the flow that calls it: plan, open the store, run the stages, end."""

from dataclasses import replace

from prefect import get_run_logger
from prefect.client.schemas.objects import State

from flows.prefect_server.crashed_runs import close_tasks_of_earlier_attempts
from flows.rebuild.end_states import completed_state, failed_state
from flows.rebuild.request import RebuildRequest
from flows.rebuild.run_summary import RunSummary
from flows.rebuild.stages import run_stages
from flows.stage_names import STAGES, stages_before, stages_between
from tasks.core.demo.recipe_hub import recipe_hub
from tasks.core.errors import KawanUsahaError
from tasks.core.home import home
from tasks.core.hub.download.sources import Sources
from tasks.core.keys import digest
from tasks.core.process.stopping import stop_in_time
from tasks.core.recipe.file import located
from tasks.core.recipe.overrides import overridden
from tasks.core.serving.state.files import used_builds
from tasks.core.signing import configured_key
from tasks.core.store import RunStore, Store, configured_remote
from tasks.core.store.releases import take_releases
from tasks.core.store.repetitions import forget_repetitions
from tasks.core.store.runs import RunRecords
from tasks.plan import preflight
from tasks.runtime import attempt_of, run, running
from tasks.task_states import waits


def run_rebuild(request: RebuildRequest) -> State[RunSummary] | State[KawanUsahaError]:
    """Return how a rebuild ended. Its tasks, lines and artifacts belong to the calling flow."""
    close_tasks_of_earlier_attempts()
    recipe = request.recipe
    try:
        request.require_order()
        recipe = overridden(recipe, request.overrides)
        say = get_run_logger().info
        in_use = Store(home(), f"rebuild {recipe.name}", say).in_use()
        with stop_in_time(), in_use, recipe_hub(recipe, home(), say):
            request = replace(request, recipe=located(recipe))
            sources = run(
                preflight,
                request.recipe,
                RunRecords(home()).commits_of(attempt_of()),
                request.overrides,
                stages_between(request.from_stage, request.until),
            )
            with running(_open_store(request, sources)) as store:
                summary = run_stages(request, sources, store)
                store.finish()
                return completed_state(summary)
    except Exception as error:  # noqa: BLE001 - an unexplained error is raised again
        return failed_state(recipe.name, error)


def _open_store(request: RebuildRequest, sources: Sources) -> RunStore:
    """Return the store as this run sees it, and record that the run has started.

    With a remote store, the releases of other machines are known from then on.
    """
    recipe = request.recipe
    remote, records = configured_remote(), RunRecords(home())
    elsewhere = set() if remote is None else take_releases(remote, records, recipe.name)
    if elsewhere is not None:
        forget_repetitions(records, but=elsewhere)
    record = records.start(
        recipe.name,
        recipe_digest=digest(recipe.model_copy(update={"keep": "all"})),
        overrides=request.overrides,
        reach=STAGES.index(request.until),
        keep=recipe.keep,
        attempt_of=attempt_of(),
        commits=sources.commits,
    )
    return RunStore(
        home(),
        record,
        in_use=lambda: used_builds(home()),
        say=get_run_logger().info,
        waits=waits,
        # Not the gate: it judges existing figures, and every run does so again.
        finished=set(stages_before(request.from_stage)) - {"gate"},
        remote=remote,
        key=configured_key(),
    )
