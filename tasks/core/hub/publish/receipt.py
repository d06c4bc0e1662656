"""The receipt of a publish or a rollback."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.core.hub.publish.build_signature import Signature
from tasks.core.hub.publish.files import Wanted

_LINES = 20


@dataclass(frozen=True)
class Receipt:
    """Where a build was published, and what was sent to get it there.

    commit is what `main` shows now (for a directory: the digest of the build's file list). sent
    names the files whose bytes were sent; skipped_bytes were there already. left_out names the
    model directory's files that are not published, each with the reason; kept names other people's
    files that stand beside the build. signature was read back from there and covers all of files
    but itself; None where none was asked for.
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

    @classmethod
    def of(
        cls,
        wanted: Mapping[str, Wanted],
        sent: tuple[str, ...],
        *,
        place: str,
        commit: str,
        tag: str,
        url: str,
        left_out: Mapping[str, str],
        kept: tuple[str, ...],
        signature: Signature | None,
    ) -> "Receipt":
        """Return the receipt of a publish of the wanted files, of which these were sent."""
        sizes = {name: file.digest.size_bytes for name, file in wanted.items()}
        sent_bytes = sum(sizes[name] for name in sent)
        return cls(
            place=place,
            commit=commit,
            tag=tag,
            url=url,
            sent_bytes=sent_bytes,
            skipped_bytes=sum(sizes.values()) - sent_bytes,
            files=tuple(sorted(wanted)),
            sent=sent,
            left_out=left_out,
            kept=kept,
            signature=signature,
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of all published files."""
        return self.sent_bytes + self.skipped_bytes

    def remarks(self) -> tuple[str, ...]:
        """Return what else people should know, one line each."""
        shown = [*self.left_out.items()][:_LINES]
        lines = [f"left out: {name} ({why})" for name, why in shown]
        if len(self.left_out) > _LINES:
            lines.append(f"left out: {len(self.left_out) - _LINES} more files")
        if self.signature is not None:
            lines.append(f"signed with the key {self.signature.signed_by}, and verified there")
        if self.kept:
            lines.append(f"kept, not of this project: {', '.join(self.kept)}")
        return tuple(lines)
