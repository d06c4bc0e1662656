"""Base and delta are added while they are downloaded, as far as possible."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from tasks.core.errors import KawanUsahaError
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.hub.download.outline import outline
from tasks.core.progress import OnProgress, silent
from tasks.core.recipe import Dtype
from tasks.core.weights.ahead import merge_ahead
from tasks.core.weights.layout import MAX_SHARD_BYTES
from tasks.core.weights.merge import Contents, MergePlan, ValuesNeeded, plan_merge

logger = logging.getLogger(__name__)

_OUTLINES = ".outlines"


def merge_while_downloading(
    base: IncomingSource,
    delta: IncomingSource,
    out: Path,
    *,
    dtype: Dtype = "float16",
    max_shard_bytes: int = MAX_SHARD_BYTES,
    on_progress: OnProgress = silent,
    wait: Callable[[], bool],
) -> Contents:
    """Return the shards of base + delta that are finished in out once the downloads have ended.

    wait is called while there is nothing to do, and returns False once the downloads have ended.
    Whatever prevents the work from being done ahead is not raised: it is left to the merge proper.
    Raises DiskFull without room for the rest of the downloads and for the result.
    """
    while not (base.begins and delta.begins):
        if not wait():
            return {}
    known = base.contents(), delta.contents()
    if known[0] is None or known[1] is None or all(each.artifact for each in (base, delta)):
        return {}
    plan = _plan(base, delta, out / _OUTLINES, dtype, max_shard_bytes)
    if plan is None:
        return {}
    return merge_ahead(
        plan,
        (base, delta),
        (known[0], known[1]),
        out,
        missing_bytes=base.missing_bytes() + delta.missing_bytes(),
        on_progress=on_progress,
        wait=wait,
    )


def _plan(
    base: IncomingSource,
    delta: IncomingSource,
    outlines: Path,
    dtype: Dtype,
    max_shard_bytes: int,
) -> MergePlan | None:
    """Return what will be read and written, None where only the complete inputs tell."""
    shutil.rmtree(outlines, ignore_errors=True)  # left by a killed attempt
    try:
        return plan_merge(
            outline(base, outlines / "base"),
            outline(delta, outlines / "delta"),
            dtype,
            max_shard_bytes=max_shard_bytes,
            values="to come",
        )
    except (KawanUsahaError, OSError, ValuesNeeded) as error:
        logger.info("The merge waits for the end of the downloads: %s", error)
        return None
