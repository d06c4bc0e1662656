"""`rebuild`: from a recipe to a served model, each stage only if its result is not there yet."""

from collections.abc import Mapping
from functools import partial

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.candidate import Candidate, Proof, unproven
from flows.form import FirstStage, GateReason, LastStage, Overrides, RecipeName, WholeRecipe
from flows.leftovers import close_tasks_of_earlier_attempts
from flows.notices import of_failure, of_success
from flows.overlap import skipped
from flows.report import RebuildReport, publish_report, summary
from flows.stage_names import STAGES, StageName, stages_before, stages_between
from flows.training_data import brought_data
from tasks.core.demo.recipe_hub import recipe_hub
from tasks.core.errors import GateFailed, KawanUsahaError, StageMissing, UsageError
from tasks.core.evaluation.figures import Role
from tasks.core.home import home
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.hub.download.sources import Sources
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
from tasks.runtime import (
    StageResult,
    attempt_of,
    explained_failure,
    known_failure,
    run,
    running,
)
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
) -> State[RebuildReport] | State[KawanUsahaError]:
    """Build, prove, publish and serve what the recipe says; what is done already is reused.

    Args:
        recipe: The model, from its sources to its service. A stage that is left empty is not run.
            Paths are those of the machine that runs the flow.
        from_stage: The first stage that may do work; from there on the run resumes at the first
            thing that is not finished. Everything before it must be finished, else the run is
            refused and names what is missing. `plan` is the whole recipe.
        until: The last stage to run.
        overrides: Fields of the recipe that this run changes, one each, such as
            `finetune.epochs=2`, `base.revision=v1.1` or `deploy=` (no such stage). A path is one of
            the machine that runs the flow; docs/recipe.md lists the fields.
        override_gate: The reason to release a model that its gate refuses. It is recorded in the
            store and on the model card. Leave empty to keep to the gate.
    """
    return rebuilt(recipe, from_stage, until, overrides, override_gate)


def _run_name() -> str:
    """Return what a run is called: by its recipe, and by its stage where it is one alone."""
    given = flow_run.parameters  # without what a deployment leaves to the flow's defaults
    last = given.get("until")
    alone = last if given.get("from_stage") == last else None
    return f"{given['recipe']}: {alone}" if alone else str(given["recipe"])


@flow(name="rebuild-recipe", flow_run_name=_run_name)
def rebuild_recipe(
    recipe: RecipeName = "kawan-usaha-13b",
    *,
    from_stage: FirstStage = "plan",
    until: LastStage = "deploy",
    overrides: Overrides = (),
    override_gate: GateReason = "",
) -> State[RebuildReport] | State[KawanUsahaError] | State[None]:
    """Rebuild a recipe of data/recipes by its name, or of a YAML file by its path.

    Args:
        recipe: A recipe that comes with the project, or the path of a YAML file on the machine
            that runs the flow.
        from_stage: The first stage that may do work; from there on the run resumes at the first
            thing that is not finished. Everything before it must be finished, else the run is
            refused and names what is missing. `plan` is the whole recipe.
        until: The last stage to run.
        overrides: Fields of the recipe that this run changes, one each, such as
            `finetune.epochs=2`, `base.revision=v1.1` or `deploy=` (no such stage). A path is one of
            the machine that runs the flow; docs/recipe.md lists the fields.
        override_gate: The reason to release a model that its gate refuses. It is recorded in the
            store and on the model card. Leave empty to keep to the gate.
    """
    try:
        found = load_recipe(find_recipe(recipe))
    except KawanUsahaError as error:
        return failed(recipe, error)
    if (nothing_to_do := skipped(found.name)) is not None:
        return nothing_to_do
    return rebuilt(found, from_stage, until, overrides, override_gate)


def rebuilt(
    recipe: Recipe,
    from_stage: StageName,
    until: StageName,
    overrides: tuple[str, ...],
    override_gate: str | None,
    *,
    proof: Proof = unproven,
) -> State[RebuildReport] | State[KawanUsahaError]:
    """Return how a rebuild ended. Its tasks, lines and pages are those of the flow that calls.

    `proof` sees the measured model before its gate, and may refuse it too.
    """
    close_tasks_of_earlier_attempts()
    try:
        _require_order(from_stage, until)
        recipe = overridden(recipe, overrides)
        say = get_run_logger().info
        in_use = Store(home(), f"rebuild {recipe.name}", say).in_use()
        with stop_in_time(), in_use, recipe_hub(recipe, home(), say):
            found, taken = located(recipe), RunRecords(home()).commits_of(attempt_of())
            sources = run(preflight, found, taken, overrides, stages_between(from_stage, until))
            with running(_store_of(found, sources, from_stage, until, overrides)) as store:
                report = _stages(
                    found,
                    sources,
                    from_stage,
                    until,
                    override_gate=override_gate or None,
                    store=store,
                    proof=proof,
                )
                store.finish()
                return succeeded(report)
    except Exception as error:  # noqa: BLE001 - whatever nobody knows is raised again
        return failed(recipe.name, error)


def succeeded(report: RebuildReport) -> State[RebuildReport]:
    """Tell what the run came to, and return the state whose message says it."""
    if not is_called():
        notify(of_success(report))
    flush()
    return Completed(message=summary(report), data=report)


def failed(recipe: str, error: Exception) -> State[KawanUsahaError]:
    """Tell why the run failed, and return the state that shows it; raise what nobody knows."""
    notify(of_failure(recipe, known_failure(error) or error))
    flush()
    return explained_failure(error)


def _require_order(from_stage: StageName, until: StageName) -> None:
    if from_stage in STAGES[STAGES.index(until) + 1 :]:
        raise UsageError(
            "The first stage comes after the last one.",
            expected=f"the order {', '.join(STAGES)}",
            found=f"from {from_stage} until {until}",
        )


def _store_of(
    recipe: Recipe,
    sources: Sources,
    from_stage: StageName,
    until: StageName,
    overrides: tuple[str, ...],
) -> RunStore:
    """Return the store as this run sees it, and record that the run has started.

    With a remote store, releases of other machines are known from then on.
    """
    remote, records = configured_remote(), RunRecords(home())
    told = set() if remote is None else take_releases(remote, records, recipe.name)
    if told is not None:
        forget_repetitions(records, but=told)
    record = records.start(
        recipe.name,
        recipe_digest=digest(recipe.model_copy(update={"keep": "all"})),
        overrides=overrides,
        reach=STAGES.index(until),
        keep=recipe.keep,
        attempt_of=attempt_of(),
        commits=sources.commits,
    )
    say = get_run_logger().info
    return RunStore(
        home(),
        record,
        in_use=lambda: used_builds(home()),
        say=say,
        waits=waits,
        # The gate judges figures that are there already, and every run does.
        finished=set(stages_before(from_stage)) - {"gate"},
        remote=remote,
        key=configured_key(),
    )


def _stages(
    recipe: Recipe,
    sources: Sources,
    from_stage: StageName,
    until: StageName,
    *,
    override_gate: str | None,
    store: RunStore,
    proof: Proof,
) -> RebuildReport:
    overrides, warnings = store.record.overrides, sources.warnings
    report = partial(RebuildReport, recipe, overrides=overrides, warnings=warnings)
    wanted = {*stages_before(until), until}
    overlap = None
    data: Mapping[str, StageResult] = {}
    if recipe.finetune is not None and wanted & {"prepare", "evaluate"}:
        data = brought_data(recipe, sources)
    if recipe.finetune is not None and "evaluate" in wanted:  # told before hours of training
        found = run(find_leaks, recipe.finetune, recipe.evaluate, override_gate, data)
        overlap = overlap_in(found)
    made, chain = _model(recipe, sources, wanted, store, data)
    if "evaluate" not in wanted:
        return _shown(report(tuple(made)))
    role, released = chain[-1]
    before = release_before(recipe.name, released)
    if before is not None:
        store.use(str(before.key))
    evaluation = run(evaluate, chain, recipe.evaluate, recipe.template, before, overlap)
    outcome, verdict = verdict_of(evaluation.path, recipe.evaluate.gate, override_gate)
    done = [*made, evaluation]
    if "gate" not in wanted:
        return _shown(report(tuple(done), outcome, verdict))
    try:
        proof(Candidate(recipe, role, released, before, outcome, verdict, data))
        run(gate, evaluation, recipe.evaluate.gate, override_gate)
    except GateFailed:
        publish_report(report(tuple(done), outcome, verdict))
        raise
    store.done_with(*(model.artifact for _, model in chain[:-1]))
    if recipe.publish is not None and from_stage == "deploy":
        _require_published(recipe, released)
    elif recipe.publish is not None and "publish" in wanted:
        done.append(run(publish, made, recipe, recipe.publish, outcome, verdict))
    if _released_by(recipe) == "publish" and "publish" in wanted:
        signature = signature_of(done[-1])
        if from_stage == "deploy":  # nothing was published now
            signature = RunRecords(home()).signature_of(recipe.name, released.artifact)
        store.release(released.artifact, verdict.forced, recipe=kept(recipe), **signature)
    if recipe.deploy is not None and "deploy" in wanted:
        done.append(
            run(
                deploy,
                released,
                recipe.deploy,
                recipe.name,
                recipe.template,
                recipe.evaluate.prompts,
            )
        )
    if _released_by(recipe) == "deploy" and "deploy" in wanted:
        store.release(released.artifact, verdict.forced, recipe=kept(recipe))
    return _shown(report(tuple(done), outcome, verdict))


def _require_published(recipe: Recipe, released: StageResult) -> None:
    """Raise StageMissing unless a run has published this model: the one at hand serves it only."""
    if released.artifact not in RunRecords(home()).releases(recipe.name):
        raise StageMissing(
            "publish is not finished, and this run begins after it.",
            where=released.artifact,
            next_step="Begin at publish, or run without a first stage: what is finished is reused.",
        )


def _released_by(recipe: Recipe) -> StageName:
    """Return the stage after which the model is out: publishing, or serving where that is all."""
    return "deploy" if recipe.publish is None and recipe.deploy is not None else "publish"


def _shown(report: RebuildReport) -> RebuildReport:
    publish_report(report)
    return report


def _model(
    recipe: Recipe,
    sources: Sources,
    wanted: set[StageName],
    store: RunStore,
    data: Mapping[str, StageResult],
) -> tuple[list[StageResult], Chain]:
    """Run the stages that make the model; return all of them, and the models that came out."""
    if "download" not in wanted:
        return [], []
    incoming = [IncomingSource(each) for each in sources]
    if recipe.delta is not None and "merge" in wanted:
        template = None if recipe.edit else recipe.template
        of_base, of_delta = incoming
        merging = partial(run, merge, of_base, of_delta, recipe.delta, template)
        base, delta, merged = done = download_all(incoming, merging)
        chain: Chain = [("base", base), ("merged", merged)]
        store.done_with(delta.artifact)
    else:
        done = download_all(incoming)
        chain = [("base", done[0])]
    if recipe.edit is not None and "edit" in wanted:
        done.append(run(edit, chain[-1][1], recipe.edit, recipe.template))
        chain.append(("edited", done[-1]))
    if recipe.finetune is not None and "prepare" in wanted:
        model, settings = chain[-1][1], recipe.finetune
        examples = run(prepare, model, settings, recipe.template, data)
        done.append(examples)
        if "finetune" in wanted:
            adapter = run(finetune, model, examples, settings, recipe.template)
            done.append(adapter)
        if "fuse" in wanted:
            done.append(run(fuse, model, adapter))
            chain.append(("fine-tuned", done[-1]))
    return done, chain
