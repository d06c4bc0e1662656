"""Download: a source of the recipe becomes an artifact."""

from collections.abc import Callable, Sequence
from functools import partial

from tasks.core.hub.download.artifact import download_source
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.hub.download.pinned import PinnedSource
from tasks.progress import StageProgress
from tasks.runtime import run, run_store, run_together, stage_task
from tasks.stage_result import StageResult


def _name(incoming: IncomingSource, role: str, **_: object) -> str:
    return f"{role} {incoming.pinned.source.short_name}"


@stage_task("download", _name)
def download(
    incoming: IncomingSource, role: str, beside: Sequence[PinnedSource] = ()
) -> StageResult:
    """Download a base or a delta, unless the store has its commit.

    beside are sources that are downloaded at the same time, and need room as well.
    """
    source, progress = incoming.pinned, StageProgress(role)
    built = download_source(source, run_store(), progress, beside=beside, incoming=incoming)
    made = StageResult.of(built, role)
    return made.model_copy(update={"source": source.source.short_name})


def download_all(
    sources: Sequence[IncomingSource], *meanwhile: tuple[str, Callable[[], StageResult]]
) -> list[StageResult]:
    """Return base and delta (if there is one), downloaded at the same time.

    They are followed by the results of the stages, by name, that use them meanwhile.
    """

    def downloading(role: str, incoming: IncomingSource) -> StageResult:
        named = download.with_options(name=f"download {role}")  # two at once, two names
        beside = [each.pinned for each in sources if each is not incoming]
        return run(named, incoming, role, beside)

    roles = zip(("base", "delta"), sources, strict=False)
    downloads = ((download.name, partial(downloading, *each)) for each in roles)
    return run_together(*downloads, *meanwhile)
