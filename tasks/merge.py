"""Merge: base + delta, streamed."""

from tasks.core.conversation.template_files import with_chat_template
from tasks.core.keys import stage_key
from tasks.core.recipe import Delta
from tasks.core.store import Staging
from tasks.progress import StageProgress
from tasks.runtime import StageResult, build_stage, stage_task

VERSION = 3


def _name(base: StageResult, delta: StageResult, **_: object) -> str:
    return f"{base.source} + {delta.source}"


@stage_task("merge", _name)
def merge(
    base: StageResult, delta: StageResult, settings: Delta, template: str | None
) -> StageResult:
    """Add the delta to the base, in the type that the recipe names.

    template is given when no edit follows, which would write it into the tokenizer's files.
    """
    params = {"dtype": settings.dtype, "template": template}
    inputs = {"base": base.digest, "delta": delta.digest}

    def write(staging: Staging) -> None:
        from tasks.core.weights.merge import merge as add

        progress = StageProgress("merge")
        written = add(base.path, delta.path, staging.path, dtype=settings.dtype, report=progress)
        staging.record(written.files)
        if template is not None:
            staging.record(with_chat_template(staging.path, template))

    key = stage_key("merge", VERSION, params, inputs)
    return build_stage(key, write, params, inputs, reads=(base, delta))
