"""Download: a source of the recipe becomes an artifact."""

from collections.abc import Sequence
from functools import partial

from tasks.core.hub.sources import fetch
from tasks.core.hub.upstream import Sources, Upstream
from tasks.progress import StageProgress
from tasks.runtime import StageResult, run, run_store, run_together, stage_task


def _name(upstream: Upstream, role: str, **_: object) -> str:
    return f"{role} {upstream.source.short_name}"


@stage_task("download", _name)
def download(upstream: Upstream, role: str, beside: Sequence[Upstream] = ()) -> StageResult:
    """Fetch a base or a delta, unless its commit is here already.

    beside are sources that are fetched at the same time, and need room as well.
    """
    made = StageResult.of(fetch(upstream, run_store(), StageProgress(role), beside=beside), role)
    return made.model_copy(update={"source": upstream.source.short_name})


def download_all(sources: Sources) -> list[StageResult]:
    """Return base and delta, as far as there is one, fetched at the same time."""

    def fetching(role: str, upstream: Upstream) -> StageResult:
        named = download.with_options(name=f"download {role}")  # two at once, two names
        return run(named, upstream, role, [each for each in sources if each is not upstream])

    roles = zip(("base", "delta"), sources, strict=False)
    return run_together(
        download.name, *(partial(fetching, role, upstream) for role, upstream in roles)
    )
