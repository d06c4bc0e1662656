"""Fuse: the adapter added to the weights, streamed."""

from tasks.core.architecture.renew_edit_fingerprint import renew_fingerprint
from tasks.core.conversation.template.files import with_template_of
from tasks.core.keys import stage_key
from tasks.core.store import Staging
from tasks.core.training.result import ADAPTER
from tasks.progress import StageProgress, output_log
from tasks.runtime import build_stage, stage_task
from tasks.stage_result import StageResult

VERSION = 4


def _name(model: StageResult, **_: object) -> str:
    return f"the adapter into {model.stage}"


@stage_task("fuse", _name)
def fuse(model: StageResult, adapter: StageResult) -> StageResult:
    """Merge the adapter into the model, which keeps its edit.

    The result is prompted with the template that the adapter was trained with.
    """
    params: dict[str, str] = {}
    inputs = {"model": model.digest, "adapter": adapter.digest}

    def write(staging: Staging) -> None:
        from tasks.core.weights.fuse import fuse_adapter  # needs torch

        progress = StageProgress("fuse")
        written = fuse_adapter(
            model.path, adapter.path / ADAPTER, staging.path, on_progress=progress
        )
        staging.record(written.files)
        staging.record(with_template_of(adapter.path / ADAPTER, staging.path))
        staging.record(renew_fingerprint(staging.path, log=output_log("fuse")))

    key = stage_key("fuse", VERSION, params, inputs)
    return build_stage(key, write, params, inputs, reads=(model, adapter))
