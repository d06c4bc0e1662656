"""Download: a source of the recipe becomes an artifact."""

from tasks.core.hub.sources import fetch
from tasks.core.recipe import Source
from tasks.progress import StageProgress
from tasks.runtime import StageResult, run_store, stage_task


def _name(source: Source, role: str) -> str:
    return f"{role} {source.short_name}"


@stage_task("download", _name)
def download(source: Source, role: str) -> StageResult:
    """Fetch a base or a delta, unless its commit is here already."""
    made = StageResult.of(fetch(source, run_store(), StageProgress(role)), role)
    return made.model_copy(update={"source": source.short_name})
