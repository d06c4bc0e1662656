"""`rebuild-across`: a rebuild whose stages run wherever their deployments' work pools have workers.

It calls the deployments `stage-…` one after another, one stage each, and does none of the work
itself. Prefect places the stages; what they have made reaches the next one through the store, and
from machine to machine through the remote store. The invariants: all stages of a run work on the
same commits, also after it was started again; and a stage that has been called is not called again
while its run is at work. When this run is cancelled, the server cancels the one that it waits for.
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

from flows.automations import RESTART_AFTER_S
from flows.form import GateReason, LastStage, Overrides, RecipeName
from flows.lifecycle import failed
from flows.notices import of_stages
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
from tasks.telling import flush

POLL_S = 2.0
RESTARTED_WITHIN = timedelta(seconds=3 * RESTART_AFTER_S)
"""A stage that has crashed for longer than this is not started again by the automation."""


@flow(name="rebuild-across", flow_run_name="{recipe}")
def rebuild_across(
    recipe: RecipeName = "kawan-usaha-13b",
    *,
    until: LastStage = "deploy",
    overrides: Overrides = (),
    override_gate: GateReason = "",
) -> State[None] | State[KawanUsahaError]:
    """Rebuild a recipe with each stage in its own work pool, on as many machines as there are.

    Args:
        recipe: A recipe that comes with the project, or the path of a YAML file that is on each
            machine.
        until: The last stage to run.
        overrides: Fields of the recipe that this run changes, one each, such as
            `finetune.epochs=2`, `base.revision=v1.1` or `deploy=` (no such stage). A path is one of
            the machines that run the stages; docs/recipe.md lists the fields.
        override_gate: The reason to release a model that its gate refuses. It is recorded in the
            store and on the model card. Leave empty to keep to the gate.
    """
    try:
        with stop_in_time(), get_client(sync_client=True) as client:
            found = overridden(load_recipe(find_recipe(recipe)), overrides)
            given: dict[str, object] = {"recipe": recipe}
            if override_gate:  # the form takes words or nothing
                given["override_gate"] = override_gate
            said: dict[str, str] = {}
            for stage in stages_of(found, until):
                if "overrides" not in given:
                    given["overrides"] = _overrides(client, stage, found, overrides)
                ended = _ended(client, stage, _called(client, stage, given))
                if not ended.is_completed():  # of which its own run has told
                    return Failed(message=f"{stage}: {ended.name}. {ended.message or ''}")
                said[stage] = ended.message or ""
            if not said:
                return Completed(message="The recipe has no stage to run.")
            notice = of_stages(found.name, said)
            notify(notice)
            flush()
            return Completed(message=notice.text)
    except Exception as error:  # noqa: BLE001 - whatever nobody knows is raised again
        return failed(recipe, error)


def stages_of(recipe: Recipe, until: StageName) -> list[StageName]:
    """Return the stages that the recipe has, up to the last one. Each plans for its own machine."""
    parts: Mapping[str, object] = {
        "merge": recipe.delta,
        "edit": recipe.edit,
        **dict.fromkeys(("prepare", "finetune", "fuse"), recipe.finetune),
        # Where nothing is published or served, passing the gate releases, and is said there.
        "publish": recipe.publish or (None if recipe.deploy else recipe),
        "deploy": recipe.deploy,
    }
    wanted = () if until == "plan" else stages_between("download", until)
    return [stage for stage in wanted if parts.get(stage, recipe.base) is not None]


def pinned(recipe: Recipe, sources: Sources, overrides: tuple[str, ...]) -> list[str]:
    """Return the overrides of a recipe, with the commits that its branches are at now."""
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
    """Return the source as an override says it: a data set at its commit."""
    said = source.model_dump(mode="json", exclude_defaults=True)
    commits = {str(each.source): each.commit for each in sources.data}
    return said | {"revision": commits[str(source)]} if source.repo else said


def _overrides(
    client: SyncPrefectClient, first: StageName, recipe: Recipe, overrides: tuple[str, ...]
) -> object:
    """Return what all stages are called with: as in an earlier attempt of this run, if any."""
    earlier = _known(client, _name_of(first, 1))
    if earlier is not None:
        return earlier.parameters["overrides"]
    logger = get_run_logger()
    with recipe_hub(recipe, home(), logger.info):
        sources = Sources.of(located(recipe), home(), {})
        pins = pinned(recipe, sources, overrides)
    for warning in sources.warnings:
        logger.warning("%s", warning)
    return pins


def _called(client: SyncPrefectClient, stage: StageName, given: Mapping[str, object]) -> FlowRun:
    """Return the run of a stage: one that an earlier attempt has called, unless it has failed."""
    attempt = 1
    while (run := _known(client, _name_of(stage, attempt))) is not None:
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


def _known(client: SyncPrefectClient, name: str) -> FlowRun | None:
    of_name = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[name]))
    return next(iter(client.read_flow_runs(flow_run_filter=of_name)), None)


def _ended(client: SyncPrefectClient, stage: StageName, run: FlowRun) -> State[None]:
    """Return how the run of a stage ended, once it has; told whenever its state changes."""
    say, told = get_run_logger().info, None
    while True:
        try:
            state = client.read_flow_run(run.id).state
        except httpx.TransportError as error:  # the server is restarted; the stage works on
            say("The Prefect server cannot be asked now (%s). Waiting.", type(error).__name__)
            state = None
        if state is not None:
            if state.name != told:
                say("%s: %s. %s", stage, state.name, state.message or "")
                told = state.name
            if _is_over(state):
                return state
        time.sleep(POLL_S)


def _is_over(state: State[None]) -> bool:
    """Return whether a run has ended for good: the automation starts a crashed one again."""
    restarted = state.is_crashed() and datetime.now(UTC) - state.timestamp < RESTARTED_WITHIN
    return state.is_final() and not restarted
