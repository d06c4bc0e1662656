"""`rebuild`: from a recipe to a served model, each stage only if its result is not there yet."""

from typing import get_args

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State

from flows.overlap import skipped
from flows.report import RebuildReport, publish_report
from flows.until import Until
from tasks.core.errors import GateFailed, KawanUsahaError
from tasks.core.evaluation.figures import Role
from tasks.core.home import home
from tasks.core.hub.here import hub_of
from tasks.core.keys import digest
from tasks.core.process.stopping import stop_in_time
from tasks.core.recipe import KAWAN_USAHA, Recipe
from tasks.core.recipe_file import find_recipe, load_recipe, located
from tasks.core.serving.state import used_builds
from tasks.core.store import RunStore, Store
from tasks.core.store.runs import RunRecords
from tasks.deploy import deploy
from tasks.download import download
from tasks.edit import edit
from tasks.evaluate import evaluate, gate, release_before, verdict_of
from tasks.finetune import finetune
from tasks.fuse import fuse
from tasks.leaks import leaks as find_leaks
from tasks.leaks import leaks_in
from tasks.merge import merge
from tasks.plan import preflight
from tasks.prepare import prepare
from tasks.publish import publish
from tasks.runtime import StageResult, explained_failure, run, running

Chain = list[tuple[Role, StageResult]]


@flow(name="rebuild", flow_run_name="{recipe.name}")
def rebuild(
    recipe: Recipe = KAWAN_USAHA, until: Until = "deploy", force: str | None = None
) -> RebuildReport | State[KawanUsahaError]:
    """Build, prove, publish and serve what the recipe says; what is done already is reused.

    `until` names the last stage to run: one that failed is repeated alone, one that is new is
    tried before the next, and everything before it comes out of the store. `force` is the reason
    for which a model that its gate refuses is released all the same; it is recorded.
    """
    try:
        say = get_run_logger().info
        in_use = Store(home(), f"rebuild {recipe.name}", say).in_use()
        with stop_in_time(), in_use, hub_of(recipe, home(), say):
            found = located(recipe)
            run(preflight, found)
            with running(_store_of(found, until)) as store:
                report = _stages(found, until, force, store)
                store.finish()
                return report
    except Exception as error:  # noqa: BLE001 - whatever nobody knows is raised again
        return explained_failure(error)


@flow(name="rebuild-recipe", flow_run_name="{recipe}")
def rebuild_recipe(
    recipe: str = "kawan-usaha-13b", until: Until = "deploy", force: str | None = None
) -> RebuildReport | State[KawanUsahaError] | State[None]:
    """Rebuild a recipe of data/recipes by its name, or of a YAML file by its path."""
    try:
        found = load_recipe(find_recipe(recipe))
    except KawanUsahaError as error:
        return explained_failure(error)
    return skipped(found.name) or rebuild(found, until, force)


def _store_of(recipe: Recipe, until: Until) -> RunStore:
    """Return the store as this run sees it, and record that the run has started."""
    record = RunRecords(home()).start(
        recipe.name,
        recipe_digest=digest(recipe.model_copy(update={"keep": "all"})),
        reach=get_args(Until).index(until),
        keep=recipe.keep,
    )
    say = get_run_logger().info
    return RunStore(home(), record, in_use=lambda: used_builds(home()), say=say)


def _stages(recipe: Recipe, until: Until, force: str | None, store: RunStore) -> RebuildReport:
    wanted = set(get_args(Until)[: get_args(Until).index(until) + 1])
    leaks = None
    if recipe.finetune is not None and "evaluate" in wanted:  # told before hours of training
        leaks = leaks_in(run(find_leaks, recipe.finetune, recipe.evaluate, force))
    made, chain = _model(recipe, wanted, store)
    if "evaluate" not in wanted:
        return _shown(RebuildReport(recipe, tuple(made)))
    released = chain[-1][1]
    before = release_before(recipe.name, released)
    if before is not None:
        store.use(str(before.key))
    evaluation = run(evaluate, chain, recipe.evaluate, recipe.template, before, leaks)
    outcome, verdict = verdict_of(evaluation.path, recipe.evaluate.gate, force)
    done = [*made, evaluation]
    try:
        run(gate, evaluation, recipe.evaluate.gate, force)
    except GateFailed:
        publish_report(RebuildReport(recipe, tuple(done), outcome, verdict))
        raise
    store.done_with(*(model.artifact for _, model in chain[:-1]))
    if recipe.publish is not None and "publish" in wanted:
        done.append(run(publish, made, recipe, recipe.publish, outcome, verdict))
    if _released_by(recipe) == "publish" and "publish" in wanted:
        store.release(released.artifact, verdict.forced)
    if recipe.deploy is not None and "deploy" in wanted:
        done.append(run(deploy, released, recipe.deploy, recipe.name, recipe.template))
    if _released_by(recipe) == "deploy" and "deploy" in wanted:
        store.release(released.artifact, verdict.forced)
    return _shown(RebuildReport(recipe, tuple(done), outcome, verdict))


def _released_by(recipe: Recipe) -> Until:
    """Return the stage after which the model is out: publishing, or serving where that is all."""
    return "deploy" if recipe.publish is None and recipe.deploy is not None else "publish"


def _shown(report: RebuildReport) -> RebuildReport:
    publish_report(report)
    return report


def _model(recipe: Recipe, wanted: set[str], store: RunStore) -> tuple[list[StageResult], Chain]:
    """Run the stages that make the model; return all of them, and the models that came out."""
    if "download" not in wanted:
        return [], []
    base = run(download, recipe.base, "base")
    done = [base]
    chain: Chain = [("base", base)]
    if recipe.delta is not None:
        delta = run(download, recipe.delta, "delta")
        done.append(delta)
        if "merge" in wanted:
            template = None if recipe.edit else recipe.template
            done.append(run(merge, base, delta, recipe.delta, template))
            chain.append(("merged", done[-1]))
            store.done_with(delta.artifact)
    if recipe.edit is not None and "edit" in wanted:
        done.append(run(edit, chain[-1][1], recipe.edit, recipe.template))
        chain.append(("edited", done[-1]))
    if recipe.finetune is not None and "fuse" in wanted:
        model, settings = chain[-1][1], recipe.finetune
        examples = run(prepare, model, settings, recipe.template)
        adapter = run(finetune, model, examples, settings, recipe.template)
        done += [examples, adapter, run(fuse, model, adapter)]
        chain.append(("fine-tuned", done[-1]))
    return done, chain
