"""What a publish or a rollback did."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.core.hub.publish.build_signature import Signature

_LINES = 20


@dataclass(frozen=True)
class Receipt:
    """The proof of a publish: where the build stands and what it cost to bring it there.

    commit is what `main` shows now (for a directory: the digest of the build's file list). sent
    names the files whose bytes were sent; skipped_bytes were there already. left_out names the
    model directory's files that are not published, each with the reason; kept names the files that
    stand beside the build and came from somebody else. signature is the one that was read back from
    there and covers all of files but itself; None where none was asked for.
    """

    place: str
    commit: str
    tag: str
    url: str
    sent_bytes: int
    skipped_bytes: int
    files: tuple[str, ...]
    sent: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    signature: Signature | None = None

    def remarks(self) -> tuple[str, ...]:
        """Return what a person should be told besides, a line each."""
        shown = [*self.left_out.items()][:_LINES]
        lines = [f"left out: {name} ({why})" for name, why in shown]
        if len(self.left_out) > _LINES:
            lines.append(f"left out: {len(self.left_out) - _LINES} more files")
        if self.signature is not None:
            lines.append(f"signed, and checked there, with the key {self.signature.signed_by}")
        if self.kept:
            lines.append(f"not of this project, and kept: {', '.join(self.kept)}")
        return tuple(lines)
