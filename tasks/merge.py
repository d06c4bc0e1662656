"""Merge: base + delta, streamed, and begun while they are still being downloaded."""

import time

from tasks.core.conversation.template.files import with_chat_template
from tasks.core.files.digests import FileDigest
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.keys import stage_key
from tasks.core.recipe import Delta
from tasks.core.store import Staging
from tasks.core.store.manifest import content_digest
from tasks.core.system.threads import pause
from tasks.progress import StageProgress
from tasks.runtime import StageResult, build_stage, stage_task
from tasks.task_states import waits

VERSION = 3

_POLL_S = 0.05


class _OtherContent(Exception):
    """A source did not become what the Hub had announced."""


def _name(base: IncomingSource, delta: IncomingSource, **_: object) -> str:
    return f"{base.pinned.source.short_name} + {delta.pinned.source.short_name}"


@stage_task("merge", _name)
def merge(
    base: IncomingSource, delta: IncomingSource, settings: Delta, template: str | None
) -> StageResult:
    """Add the delta to the base, in the dtype that the recipe names.

    template is given only when no edit follows; an edit writes it into the tokenizer's files.
    """
    try:
        return _merged(base, delta, settings, template)
    except _OtherContent:  # both are complete by now, and have their own digests
        return _merged(base, delta, settings, template)


def _merged(
    base: IncomingSource, delta: IncomingSource, settings: Delta, template: str | None
) -> StageResult:
    params = {"dtype": settings.dtype, "template": template}
    inputs = {"base": _content(base), "delta": _content(delta)}
    finished: dict[str, FileDigest] = {}
    progress = StageProgress("merge")

    def ahead(staging: Staging) -> None:
        from tasks.core.hub.download.merge_ahead import merge_while_downloading

        def wait() -> bool:
            return _waited(staging, base, delta)

        finished.update(
            merge_while_downloading(
                base, delta, staging.path, dtype=settings.dtype, on_progress=progress, wait=wait
            )
        )
        if not _is_whole(base, delta):
            waits("waits for the end of the downloads")
        while wait():
            pass
        if inputs != {"base": _content(base), "delta": _content(delta)}:
            raise _OtherContent

    def write(staging: Staging) -> None:
        from tasks.core.weights.merge import merge_delta

        written = merge_delta(
            base.directory,
            delta.directory,
            staging.path,
            dtype=settings.dtype,
            on_progress=progress,
            contents=(base.contents() or {}, delta.contents() or {}),
            finished=finished,
        )
        staging.record(written.files)
        if template is not None:
            staging.record(with_chat_template(staging.path, template))

    key = stage_key("merge", VERSION, params, inputs)
    needs = [str(each.pinned.key) for each in (base, delta)]
    return build_stage(key, write, params, inputs, needs=needs, before=ahead)


def _content(incoming: IncomingSource) -> str:
    """Return the digest of a source's content once it is known: often before it is complete."""
    while (contents := incoming.contents()) is None:
        pause(_POLL_S)
    return content_digest(contents)


def _is_whole(*sources: IncomingSource) -> bool:
    return all(incoming.artifact is not None for incoming in sources)


def _waited(staging: Staging, *sources: IncomingSource) -> bool:
    """Return True after a short pause, or False at once if all sources are complete."""
    if _is_whole(*sources):
        return False
    began = time.monotonic()
    pause(_POLL_S)
    staging.waited_s += time.monotonic() - began
    return True
