"""Merge: base + delta, streamed."""

from tasks.core.keys import stage_key
from tasks.core.recipe import Delta
from tasks.core.store import Staging
from tasks.core.weights.merge import merge as add
from tasks.runtime import StageProgress, StageResult, build_stage, stage_task

VERSION = 1


@stage_task("merge")
def merge(base: StageResult, delta: StageResult, settings: Delta) -> StageResult:
    """Add the delta to the base, in the type that the recipe names."""
    params = {"dtype": settings.dtype}
    inputs = {"base": base.digest, "delta": delta.digest}

    def write(staging: Staging) -> None:
        progress = StageProgress("merge")
        written = add(base.path, delta.path, staging.path, dtype=settings.dtype, report=progress)
        staging.record(written.files)

    return build_stage(stage_key("merge", VERSION, params, inputs), write, params, inputs)
