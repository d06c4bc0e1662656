"""Download: a source of the recipe becomes an artifact."""

from tasks.core.hub.sources import fetch
from tasks.core.recipe import Source
from tasks.progress import StageProgress
from tasks.runtime import StageResult, stage_task, store


@stage_task("download", "download {role}")
def download(source: Source, role: str) -> StageResult:
    """Fetch a base or a delta, unless its commit is here already."""
    return StageResult.of(fetch(source, store(), StageProgress(role)), role)
