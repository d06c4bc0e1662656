"""The directory in which a stage writes its artifact, with what it reports on the way."""

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
    """Where an attempt writes. What an earlier attempt with the same key wrote is still there."""

    path: Path
    facts: dict[str, JsonValue] = field(default_factory=dict)
    known: dict[str, FileDigest] = field(default_factory=dict)
    handover: Handover | None = None
    waited_s: float = 0.0
    """How long the stage has waited for other work, which its cost does not include."""
    private: bool = False
    """Whether the artifact holds what people wrote, by its inputs or as the stage says."""
    _handed_over: bool = False
    _open_mode: int | None = None

    def record(self, files: Mapping[str, FileDigest]) -> None:
        """Use the digests that the writer computed in passing, so that no file is read again."""
        self.known.update(files)

    def note(self, **facts: object) -> None:
        """Add facts that were found out while building to the manifest."""
        self.facts.update({name: to_jsonable(value, at=name) for name, value in facts.items()})

    def keep_private(self) -> None:
        """Mark the artifact as holding what people wrote, for its owner only from now on."""
        if not self.private:
            self._open_mode = close(self.path)
        self.private = True

    def holds_no_text(self) -> None:
        """Mark the artifact as holding no text of its inputs, as a model's weights do not."""
        if self._open_mode is not None:
            self.path.chmod(self._open_mode)
        self.private = False

    @contextmanager
    def handed_over(self, latest: Latest) -> Iterator[None]:
        """Keep the latest complete state at the remote store, if there is one, during the block.

        Another machine can resume from it, as this one does from another's when `latest` finds
        nothing here. Raises StorageUnavailable while the remote store cannot be asked.
        """
        if self.handover is None or self.private:
            yield
            return
        self._handed_over = True
        with self.handover.resumable(latest):
            yield

    def forget(self) -> None:
        """Remove the state that is kept remotely: the artifact is finished."""
        if self.handover is not None and self._handed_over:
            self.handover.forget()
