"""What a recipe learns from, brought to this machine: only what does not lie here already."""

from collections.abc import Mapping

from tasks.collected import collected
from tasks.core.hub.download.sources import Sources
from tasks.core.recipe import Recipe
from tasks.dataset import dataset
from tasks.runtime import StageResult, run


def brought_data(recipe: Recipe, sources: Sources) -> Mapping[str, StageResult]:
    """Return the artifacts of data sets and of reviewed conversations, by `str(source)`.

    Files and directories need none. Raises what these tasks raise.
    """
    if recipe.finetune is None:
        return {}
    found = {str(each.source): run(dataset, each) for each in sources.data}
    for source in recipe.finetune.data:
        if source.collected is not None:
            found[str(source)] = run(collected, source.collected)
    return found
