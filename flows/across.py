"""The flow `rebuild-across`: each stage runs in the work pool of its own deployment.

It starts the deployments `stage-…` one after another and does none of the work itself. Prefect
places the stages; their results reach the next one through the store, and other machines through
the remote store. The invariants: all stages of a run use the same commits, even after a restart of
the run; and a stage is not started again while its run is running. When this run is cancelled, the
server cancels the stage that it waits for.
"""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import cast

import httpx
from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.runtime import flow_run as this_run
from prefect.states import Completed, Failed

from flows.form import GateReason, LastStage, Overrides, RecipeName
from flows.prefect_server.automations import RESTART_AFTER_S
from flows.rebuild.end_states import failed_state
from flows.rebuild.notices import stages_notice
from flows.stage_names import StageName, stages_between
from tasks.core.demo.recipe_hub import recipe_hub
from tasks.core.errors import KawanUsahaError
from tasks.core.home import home
from tasks.core.hub.download.sources import Sources
from tasks.core.process.stopping import stop_in_time
from tasks.core.recipe import Recipe
from tasks.core.recipe.data import DataSource
from tasks.core.recipe.file import find_recipe, load_recipe, located
from tasks.core.recipe.overrides import overridden
from tasks.notices import notify
from tasks.outbox import flush

POLL_S = 2.0
RESTARTED_WITHIN = timedelta(seconds=3 * RESTART_AFTER_S)
"""After this time the automation does not restart a crashed stage any more."""


@flow(name="rebuild-across", flow_run_name="{recipe}")
def rebuild_across(
    recipe: RecipeName = "kawan-usaha-13b",
    *,
    until: LastStage = "deploy",
    overrides: Overrides = (),
    override_gate: GateReason = "",
) -> State[None] | State[KawanUsahaError]:
    """Rebuild a recipe with each stage in its own work pool, on any number of machines.

    Args:
        recipe: A recipe that comes with the project, or the path of a YAML file that exists on each
            machine.
        until: The last stage to run.
        overrides: Fields of the recipe that this run changes, one each, such as
            `finetune.epochs=2`, `base.revision=v1.1` or `deploy=` (omit the stage). Paths are those
            of the machines that run the stages; docs/recipe.md lists the fields.
        override_gate: The reason to release a model that its gate refuses. It is recorded in the
            store and on the model card. Leave it empty to obey the gate.
    """
    try:
        with stop_in_time(), get_client(sync_client=True) as client:
            found = overridden(load_recipe(find_recipe(recipe)), overrides)
            given: dict[str, object] = {"recipe": recipe}
            if override_gate:  # the form sends None for an empty field
                given["override_gate"] = override_gate
            messages: dict[str, str] = {}
            for stage in wanted_stages(found, until):
                if "overrides" not in given:
                    given["overrides"] = _pinned_overrides(client, stage, found, overrides)
                ended = _await_end(client, stage, _stage_run(client, stage, given))
                if not ended.is_completed():  # the stage's own run has sent a notice
                    return Failed(message=f"{stage}: {ended.name}. {ended.message or ''}")
                messages[stage] = ended.message or ""
            if not messages:
                return Completed(message="The recipe has no stage to run.")
            notice = stages_notice(found.name, messages)
            notify(notice)
            flush()
            return Completed(message=notice.text)
    except Exception as error:  # noqa: BLE001 - an unexplained error is raised again
        return failed_state(recipe, error)


def wanted_stages(recipe: Recipe, until: StageName) -> list[StageName]:
    """Return the recipe's stages up to `until`. There is no plan: each stage plans its machine."""
    parts: Mapping[str, object] = {
        "merge": recipe.delta,
        "edit": recipe.edit,
        **dict.fromkeys(("prepare", "finetune", "fuse"), recipe.finetune),
        # Where nothing is published or deployed, this stage only records the release.
        "publish": recipe.publish or (None if recipe.deploy else recipe),
        "deploy": recipe.deploy,
    }
    wanted = () if until == "plan" else stages_between("download", until)
    return [stage for stage in wanted if parts.get(stage, recipe.base) is not None]


def pinned_overrides(recipe: Recipe, sources: Sources, overrides: tuple[str, ...]) -> list[str]:
    """Return the overrides of a recipe, with the current commit of each branch."""
    pins: dict[str, object] = {
        f"{name}.revision": source.commit
        for name, source in (("base", sources.base), ("delta", sources.delta))
        if source is not None and source.commit is not None
    }
    if recipe.finetune is not None and sources.data:
        pins["finetune.data"] = [_pinned(each, sources) for each in recipe.finetune.data]
    kept = [each for each in overrides if each.partition("=")[0] not in pins]
    return [*kept, *(f"{field}={json.dumps(value)}" for field, value in pins.items())]


def _pinned(source: DataSource, sources: Sources) -> dict[str, object]:
    """Return the source as the value of an override, a data set at its commit."""
    said = source.model_dump(mode="json", exclude_defaults=True)
    commits = {str(each.source): each.commit for each in sources.data}
    return said | {"revision": commits[str(source)]} if source.repo else said


def _pinned_overrides(
    client: SyncPrefectClient, first: StageName, recipe: Recipe, overrides: tuple[str, ...]
) -> object:
    """Return the overrides of all stages: those of an earlier attempt of this run, if any."""
    earlier = _find_run(client, _name_of(first, 1))
    if earlier is not None:
        return earlier.parameters["overrides"]
    logger = get_run_logger()
    with recipe_hub(recipe, home(), logger.info):
        sources = Sources.of(located(recipe), home(), {})
        pins = pinned_overrides(recipe, sources, overrides)
    for warning in sources.warnings:
        logger.warning("%s", warning)
    return pins


def _stage_run(client: SyncPrefectClient, stage: StageName, given: Mapping[str, object]) -> FlowRun:
    """Return the run of a stage: that of an earlier attempt unless it failed, or a new one."""
    attempt = 1
    while (run := _find_run(client, _name_of(stage, attempt))) is not None:
        if run.state is None or run.state.is_completed() or not _is_over(run.state):
            return run
        attempt += 1
    called = run_deployment(
        f"rebuild-recipe/stage-{stage}",
        parameters={**given, "from_stage": stage, "until": stage},
        idempotency_key=_name_of(stage, attempt),
        flow_run_name=f"{given['recipe']}: {stage}",
        timeout=0,
    )
    return cast("FlowRun", called)  # a coroutine only where an event loop runs


def _name_of(stage: StageName, attempt: int) -> str:
    return f"{this_run.id}-{stage}-{attempt}"


def _find_run(client: SyncPrefectClient, name: str) -> FlowRun | None:
    of_name = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[name]))
    return next(iter(client.read_flow_runs(flow_run_filter=of_name)), None)


def _await_end(client: SyncPrefectClient, stage: StageName, run: FlowRun) -> State[None]:
    """Wait until the run of a stage has ended; return its state, logging each change."""
    log, logged = get_run_logger().info, None
    while True:
        try:
            state = client.read_flow_run(run.id).state
        except httpx.TransportError as error:  # a restart of the server; the stage runs on
            log("The Prefect server does not answer (%s). Waiting.", type(error).__name__)
            state = None
        if state is not None:
            if state.name != logged:
                log("%s: %s. %s", stage, state.name, state.message or "")
                logged = state.name
            if _is_over(state):
                return state
        time.sleep(POLL_S)


def _is_over(state: State[None]) -> bool:
    """Return whether a run has ended for good: the automation may restart a crashed one."""
    restarted = state.is_crashed() and datetime.now(UTC) - state.timestamp < RESTARTED_WITHIN
    return state.is_final() and not restarted
