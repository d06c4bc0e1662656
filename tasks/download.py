"""Download: a source of the recipe becomes an artifact."""

from collections.abc import Callable, Sequence
from functools import partial

from tasks.core.hub.download.incoming import Coming
from tasks.core.hub.download.sources import fetch
from tasks.core.hub.download.upstream import Upstream
from tasks.progress import StageProgress
from tasks.runtime import StageResult, run, run_store, run_together, stage_task


def _name(coming: Coming, role: str, **_: object) -> str:
    return f"{role} {coming.upstream.source.short_name}"


@stage_task("download", _name)
def download(coming: Coming, role: str, beside: Sequence[Upstream] = ()) -> StageResult:
    """Fetch a base or a delta, unless its commit is here already.

    beside are sources that are fetched at the same time, and need room as well.
    """
    upstream, progress = coming.upstream, StageProgress(role)
    built = fetch(upstream, run_store(), progress, beside=beside, coming=coming)
    made = StageResult.of(built, role)
    return made.model_copy(update={"source": upstream.source.short_name})


def download_all(
    sources: Sequence[Coming], *meanwhile: Callable[[], StageResult]
) -> list[StageResult]:
    """Return base and delta, as far as there is one, fetched at the same time.

    Then come the results of what is done with them meanwhile.
    """

    def fetching(role: str, coming: Coming) -> StageResult:
        named = download.with_options(name=f"download {role}")  # two at once, two names
        beside = [each.upstream for each in sources if each is not coming]
        return run(named, coming, role, beside)

    roles = zip(("base", "delta"), sources, strict=False)
    fetches = (partial(fetching, role, coming) for role, coming in roles)
    return run_together(download.name, *fetches, *meanwhile)
