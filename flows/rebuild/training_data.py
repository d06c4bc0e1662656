"""Fetch what a recipe learns from, where it is not on this machine yet."""

from collections.abc import Mapping

from tasks.collected import collected
from tasks.core.hub.download.sources import Sources
from tasks.core.recipe import Recipe
from tasks.dataset import dataset
from tasks.runtime import run
from tasks.stage_result import StageResult


def fetch_training_data(recipe: Recipe, sources: Sources) -> Mapping[str, StageResult]:
    """Return the artifacts of data sets and of reviewed conversations, by `str(source)`.

    Files and directories need no artifact. Raises what these tasks raise.
    """
    if recipe.finetune is None:
        return {}
    found = {str(each.source): run(dataset, each) for each in sources.data}
    for source in recipe.finetune.data:
        if source.collected is not None:
            found[str(source)] = run(collected, source.collected)
    return found
