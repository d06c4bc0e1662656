"""The stages that build the model: download, merge, edit, prepare, finetune, fuse."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from flows.rebuild.request import RebuildRequest
from tasks.core.evaluation.figures import Role
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.hub.download.sources import Sources
from tasks.core.store import RunStore
from tasks.download import download_all
from tasks.edit import edit
from tasks.finetune import finetune
from tasks.fuse import fuse
from tasks.merge import merge
from tasks.prepare import prepare
from tasks.runtime import run
from tasks.stage_result import StageResult


@dataclass
class ModelChain:
    """The results of all stages so far, and the models among them, each built from the last."""

    stages: list[StageResult]
    models: list[tuple[Role, StageResult]]

    def add(self, result: StageResult, role: Role | None = None) -> StageResult:
        """Add the result of a stage; with a role, it is a model. Return the result."""
        self.stages.append(result)
        if role is not None:
            self.models.append((role, result))
        return result


def build_model(
    request: RebuildRequest, sources: Sources, store: RunStore, data: Mapping[str, StageResult]
) -> ModelChain:
    """Run the wanted stages that build the model."""
    recipe = request.recipe
    if not request.includes("download"):
        return ModelChain([], [])
    chain = _downloaded(request, sources, store)
    if recipe.edit is not None and request.includes("edit"):
        chain.add(run(edit, chain.models[-1][1], recipe.edit, recipe.template), "edited")
    if recipe.finetune is not None and request.includes("prepare"):
        model = chain.models[-1][1]
        examples = chain.add(run(prepare, model, recipe.finetune, recipe.template, data))
        if request.includes("finetune"):
            adapter = chain.add(run(finetune, model, examples, recipe.finetune, recipe.template))
        if request.includes("fuse"):
            chain.add(run(fuse, model, adapter), "fine-tuned")
    return chain


def _downloaded(request: RebuildRequest, sources: Sources, store: RunStore) -> ModelChain:
    """Return the base, and where there is a delta to merge, both downloads and their merge."""
    recipe, coming = request.recipe, [IncomingSource(each) for each in sources]
    if recipe.delta is None or not request.includes("merge"):
        done = download_all(coming)
        return ModelChain(done, [("base", done[0])])
    template = None if recipe.edit else recipe.template
    of_base, of_delta = coming
    merging = partial(run, merge, of_base, of_delta, recipe.delta, template)
    done = download_all(coming, (merge.name, merging))
    base, delta, merged = done
    store.done_with(delta.artifact)
    return ModelChain(done, [("base", base), ("merged", merged)])
