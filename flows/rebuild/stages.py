"""All stages of a rebuild in their order: build the model, measure it, gate it, release it."""

from collections.abc import Mapping
from functools import partial

from flows.rebuild.candidate import Candidate
from flows.rebuild.model_chain import ModelChain, build_model
from flows.rebuild.release import release
from flows.rebuild.request import RebuildRequest
from flows.rebuild.run_page import publish_summary
from flows.rebuild.run_summary import RunSummary
from flows.rebuild.training_data import fetch_training_data
from tasks.core.conversation.checking.leaks import Overlap
from tasks.core.errors import GateFailed
from tasks.core.hub.download.sources import Sources
from tasks.core.store import RunStore
from tasks.evaluate import evaluate, gate, release_before, verdict_of
from tasks.leaks import leaks, overlap_in
from tasks.runtime import run
from tasks.stage_result import StageResult


def run_stages(request: RebuildRequest, sources: Sources, store: RunStore) -> RunSummary:
    """Run every wanted stage, publish the summary and return it.

    Raises GateFailed for a model that must not be released; its summary is published before.
    """
    recipe = request.recipe
    summary = partial(
        RunSummary, recipe, overrides=store.record.overrides, warnings=sources.warnings
    )
    data, overlap = _training_data(request, sources)
    chain = build_model(request, sources, store, data)
    if not request.includes("evaluate"):
        return publish_summary(summary(tuple(chain.stages)))
    evaluation, candidate = _measured(request, chain, store, data, overlap)
    summary = partial(summary, outcome=candidate.outcome, verdict=candidate.verdict)
    done = [*chain.stages, evaluation]
    if not request.includes("gate"):
        return publish_summary(summary(tuple(done)))
    try:
        request.release_check(candidate)
        run(gate, evaluation, recipe.evaluate.gate, request.override_gate)
    except GateFailed:
        publish_summary(summary(tuple(done)))
        raise
    store.done_with(*(model.artifact for _, model in chain.models[:-1]))
    done += release(request, candidate, chain.stages, store)
    return publish_summary(summary(tuple(done)))


def _training_data(
    request: RebuildRequest, sources: Sources
) -> tuple[Mapping[str, StageResult], Overlap | None]:
    """Return what is trained on, and what of it stands in the held-out conversations too."""
    recipe, data, overlap = request.recipe, dict[str, StageResult](), None
    if recipe.finetune is None:
        return data, overlap
    if request.includes("prepare"):
        data = dict(fetch_training_data(recipe, sources))
    if request.includes("evaluate"):  # before hours of training, which it may make worthless
        found = run(leaks, recipe.finetune, recipe.evaluate, request.override_gate, data)
        overlap = overlap_in(found)
    return data, overlap


def _measured(
    request: RebuildRequest,
    chain: ModelChain,
    store: RunStore,
    data: Mapping[str, StageResult],
    overlap: Overlap | None,
) -> tuple[StageResult, Candidate]:
    """Return the evaluation of the models, and the last one as a candidate for release."""
    recipe, (role, model) = request.recipe, chain.models[-1]
    before = release_before(recipe.name, model)
    if before is not None:
        store.use(str(before.key))
    evaluation = run(evaluate, chain.models, recipe.evaluate, recipe.template, before, overlap)
    outcome, verdict = verdict_of(evaluation.path, recipe.evaluate.gate, request.override_gate)
    return evaluation, Candidate(recipe, role, model, before, outcome, verdict, data)
