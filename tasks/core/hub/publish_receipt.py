"""What a publish or a rollback did."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Receipt:
    """The proof of a publish: where the build stands and what it cost to bring it there.

    commit is what `main` shows now (for a directory: the digest of the build's file list). sent
    names the files whose bytes were sent; skipped_bytes were there already.
    """

    place: str
    commit: str
    tag: str
    url: str
    sent_bytes: int
    skipped_bytes: int
    files: tuple[str, ...]
    sent: tuple[str, ...] = ()
