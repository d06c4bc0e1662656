"""Fuse: the adapter added to the weights, streamed."""

from tasks.core.keys import stage_key
from tasks.core.store import Staging
from tasks.core.training.finetune import ADAPTER
from tasks.core.weights.fuse import fuse as add
from tasks.runtime import StageProgress, StageResult, build_stage, stage_task

VERSION = 1


@stage_task("fuse")
def fuse(model: StageResult, adapter: StageResult) -> StageResult:
    """Make model + adapter one whole model, which still carries its edit."""
    inputs = {"model": model.digest, "adapter": adapter.digest}

    def write(staging: Staging) -> None:
        progress = StageProgress("fuse")
        written = add(model.path, adapter.path / ADAPTER, staging.path, report=progress)
        staging.record(written.files)

    return build_stage(stage_key("fuse", VERSION, {}, inputs), write, {}, inputs)
