"""Merge: base + delta, streamed, and begun while they are still being downloaded."""

import time
from dataclasses import dataclass, field

from tasks.core.conversation.template.files import with_chat_template
from tasks.core.files.digests import FileDigest
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.keys import stage_key
from tasks.core.recipe import Delta
from tasks.core.store import Staging
from tasks.core.store.manifest import content_digest
from tasks.core.system.threads import pause
from tasks.progress import StageProgress
from tasks.runtime import build_stage, stage_task
from tasks.stage_result import StageResult
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
        return _Merge(base, delta, settings, template).result()
    except _OtherContent:  # both are complete by now, and have their own digests
        return _Merge(base, delta, settings, template).result()


@dataclass
class _Merge:
    """One attempt, for the content that the sources have announced."""

    base: IncomingSource
    delta: IncomingSource
    settings: Delta
    template: str | None
    finished: dict[str, FileDigest] = field(default_factory=dict)
    """The shards that were made before the downloads ended."""
    progress: StageProgress = field(default_factory=lambda: StageProgress("merge"))

    def result(self) -> StageResult:
        params = {"dtype": self.settings.dtype, "template": self.template}
        inputs = self._inputs()

        def ahead(staging: Staging) -> None:
            self._merge_ahead(staging)
            if inputs != self._inputs():
                raise _OtherContent

        key = stage_key("merge", VERSION, params, inputs)
        needs = [str(each.pinned.key) for each in (self.base, self.delta)]
        return build_stage(key, self._write, params, inputs, needs=needs, before=ahead)

    def _inputs(self) -> dict[str, str]:
        return {"base": _content(self.base), "delta": _content(self.delta)}

    def _merge_ahead(self, staging: Staging) -> None:
        """Make what shards can be made, and return once both downloads have ended."""
        from tasks.core.hub.download.merge_ahead import merge_while_downloading  # needs torch

        def wait() -> bool:
            return _waited(staging, self.base, self.delta)

        made = merge_while_downloading(
            self.base,
            self.delta,
            staging.path,
            dtype=self.settings.dtype,
            on_progress=self.progress,
            wait=wait,
        )
        self.finished.update(made)
        if not _is_whole(self.base, self.delta):
            waits("waits for the end of the downloads")
        while wait():
            pass

    def _write(self, staging: Staging) -> None:
        from tasks.core.weights.merge import merge_delta  # needs torch

        written = merge_delta(
            self.base.directory,
            self.delta.directory,
            staging.path,
            dtype=self.settings.dtype,
            on_progress=self.progress,
            contents=(self.base.contents() or {}, self.delta.contents() or {}),
            finished=self.finished,
        )
        staging.record(written.files)
        if self.template is not None:
            staging.record(with_chat_template(staging.path, self.template))


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
