"""Release a model that passed its gate: publish it, serve it, record the release."""

from collections.abc import Sequence

from flows.rebuild.candidate import Candidate
from flows.rebuild.request import RebuildRequest
from flows.stage_names import StageName
from tasks.core.errors import StageMissing
from tasks.core.home import home
from tasks.core.learning.released import recorded_recipe
from tasks.core.recipe import Recipe
from tasks.core.store import RunStore
from tasks.core.store.runs import RunRecords
from tasks.deploy import deploy
from tasks.publish import publish, signature_of
from tasks.runtime import run
from tasks.stage_result import StageResult


def release(
    request: RebuildRequest, candidate: Candidate, built: Sequence[StageResult], store: RunStore
) -> list[StageResult]:
    """Publish and deploy the candidate as the recipe says; return the results of both stages.

    It counts as released after publishing, or after deploying where nothing is published. Raises
    StageMissing if the run begins at deploy and nothing was published.
    """
    recipe, name = request.recipe, candidate.model.artifact
    releases_at, done = _releasing_stage(recipe), list[StageResult]()
    if request.from_stage == "deploy":
        signature = _signature_of_earlier_publish(recipe, candidate.model)
    elif recipe.publish is not None and request.includes("publish"):
        outcome, verdict = candidate.outcome, candidate.verdict
        done.append(run(publish, list(built), recipe, recipe.publish, outcome, verdict))
        signature = signature_of(done[-1])
    else:
        signature = {}
    if releases_at == "publish" and request.includes("publish"):
        store.release(name, candidate.verdict.forced, recipe=recorded_recipe(recipe), **signature)
    if recipe.deploy is not None and request.includes("deploy"):
        prompts = recipe.evaluate.prompts
        model, settings = candidate.model, recipe.deploy
        done.append(run(deploy, model, settings, recipe.name, recipe.template, prompts))
    if releases_at == "deploy" and request.includes("deploy"):
        store.release(name, candidate.verdict.forced, recipe=recorded_recipe(recipe))
    return done


def _releasing_stage(recipe: Recipe) -> StageName:
    """Return the stage that releases the model: publish, or deploy where that is the only one."""
    return "deploy" if recipe.publish is None and recipe.deploy is not None else "publish"


def _signature_of_earlier_publish(recipe: Recipe, model: StageResult) -> dict[str, str]:
    """Return the signature that an earlier run published this model with, if it was signed.

    Raises StageMissing where the recipe publishes and no run has published this model.
    """
    records = RunRecords(home())
    if recipe.publish is not None and model.artifact not in records.releases(recipe.name):
        raise StageMissing(
            "publish is not finished, and this run begins after it.",
            where=model.artifact,
            next_step="Start at publish, or without a first stage: finished stages are reused.",
        )
    return records.signature_of(recipe.name, model.artifact)
