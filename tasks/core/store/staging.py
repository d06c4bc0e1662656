"""What a stage is given to write its artifact into."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from tasks.core.files.digests import FileDigest
from tasks.core.keys import to_jsonable
from tasks.core.store.handover import Handover, Latest
from tasks.core.store.privacy import close


@dataclass
class Staging:
    """Where an attempt writes. What an earlier attempt with the same key left is still there."""

    path: Path
    facts: dict[str, JsonValue] = field(default_factory=dict)
    known: dict[str, FileDigest] = field(default_factory=dict)
    handover: Handover | None = None
    waited_s: float = 0.0
    """How long the stage has waited for others, which is no part of what it takes."""
    private: bool = False
    """Whether the artifact holds what people wrote, by its inputs or as the stage says."""
    _handed_over: bool = False
    _open_mode: int | None = None

    def record(self, files: Mapping[str, FileDigest]) -> None:
        """Take over digests that the writer computed in passing, so no file is read again."""
        self.known.update(files)

    def note(self, **facts: object) -> None:
        """Add what was found out while building to the manifest."""
        self.facts.update({name: to_jsonable(value, at=name) for name, value in facts.items()})

    def keep_private(self) -> None:
        """Say that the artifact holds what people wrote: its owner's alone, from now on."""
        if not self.private or self._open_mode is None:
            self._open_mode = close(self.path)
        self.private = True

    def holds_no_text(self) -> None:
        """Say that nothing of its inputs' texts is in the artifact, as in a model's weights."""
        if self._open_mode is not None:
            self.path.chmod(self._open_mode)
        self.private = False

    @contextmanager
    def handed_over(self, latest: Latest) -> Iterator[None]:
        """In the block, keep the latest whole state of the work at the remote store, if any.

        So another machine goes on from there, as this one does from another's when `latest` finds
        nothing here. Raises StorageUnavailable when that cannot be found out.
        """
        if self.handover is None or self.private:
            yield
            return
        self._handed_over = True
        with self.handover.going_on(latest):
            yield

    def forget(self) -> None:
        """Remove what was handed over: the artifact is finished."""
        if self.handover is not None and self._handed_over:
            self.handover.forget()
