"""`rebuild`: from a recipe to a served model, each stage only if its result is not there yet."""

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State

from flows.report import RebuildReport, publish_report
from tasks.core.errors import GateFailed, KawanUsahaError
from tasks.core.evaluation.figures import Role
from tasks.core.home import home
from tasks.core.hub.here import hub_of
from tasks.core.recipe import KAWAN_USAHA, Recipe
from tasks.core.recipe_file import find_recipe, load_recipe, located
from tasks.core.store import Store
from tasks.core.store.runs import RunRecords
from tasks.deploy import deploy
from tasks.download import download
from tasks.edit import edit
from tasks.evaluate import evaluate, verdict_of
from tasks.finetune import finetune
from tasks.fuse import fuse
from tasks.merge import merge
from tasks.plan import preflight
from tasks.publish import publish
from tasks.runtime import StageResult, explained_failure

Chain = list[tuple[Role, StageResult]]


@flow(name="rebuild", flow_run_name="{recipe.name}")
def rebuild(recipe: Recipe = KAWAN_USAHA) -> RebuildReport | State[KawanUsahaError]:
    """Build, prove, publish and serve what the recipe says; what is done already is reused."""
    try:
        with Store(home()).in_use(), hub_of(recipe, home()):
            return _stages(located(recipe))
    except KawanUsahaError as error:
        get_run_logger().error("%s", error)
        return explained_failure(error)


@flow(name="rebuild-recipe", flow_run_name="{recipe}")
def rebuild_recipe(recipe: str = "kawan-usaha-13b") -> RebuildReport | State[KawanUsahaError]:
    """Rebuild a recipe of data/recipes by its name, or of a YAML file by its path."""
    try:
        found = load_recipe(find_recipe(recipe))
    except KawanUsahaError as error:
        get_run_logger().error("%s", error)
        return explained_failure(error)
    return rebuild(found)


def _stages(recipe: Recipe) -> RebuildReport:
    preflight.submit(recipe).result()
    made, chain = _model(recipe)
    evaluation = evaluate.submit(chain, recipe.evaluate, recipe.template).result()
    outcome, verdict = verdict_of(evaluation.path, recipe.evaluate)
    done = [*made, evaluation]
    released = chain[-1][1]
    if verdict.passed and recipe.publish is not None:
        done.append(publish.submit(made, recipe, recipe.publish, outcome).result())
    if verdict.passed and recipe.deploy is not None:
        deployed = deploy.submit(
            released, recipe.deploy, name=recipe.name, template=recipe.template
        )
        done.append(deployed.result())
    report = RebuildReport(recipe=recipe, stages=tuple(done), outcome=outcome, verdict=verdict)
    publish_report(report)
    if not verdict.passed:
        raise GateFailed(
            "The model is not published and not served: it does not keep the recipe's limits.",
            where=evaluation.path,
            found="; ".join(verdict.reasons),
            next_step="Read the report, then change the recipe, or its limits if they are wrong.",
        )
    RunRecords(home()).add(recipe.name, tuple(stage.artifact for stage in done))
    return report


def _model(recipe: Recipe) -> tuple[list[StageResult], Chain]:
    """Run the stages that make the model; return all of them, and the models that came out."""
    base = download.submit(recipe.base, "base").result()
    done = [base]
    chain: Chain = [("base", base)]
    if recipe.delta is not None:
        delta = download.submit(recipe.delta, "delta").result()
        merged = merge.submit(base, delta, recipe.delta).result()
        done += [delta, merged]
        chain.append(("merged", merged))
    if recipe.edit is not None:
        edited = edit.submit(chain[-1][1], recipe.edit).result()
        done.append(edited)
        chain.append(("edited", edited))
    if recipe.finetune is not None:
        model = chain[-1][1]
        adapter = finetune.submit(model, recipe.finetune, recipe.template).result()
        fused = fuse.submit(model, adapter).result()
        done += [adapter, fused]
        chain.append(("fine-tuned", fused))
    return done, chain
