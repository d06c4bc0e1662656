"""What the embedded Hub keeps of a repository, as it stands in its JSON files.

A commit names every file of its tree and is never changed; a repository names its commits through
branches and tags. Git's own ids are used for file contents, as on the Hub, because clients check
small files against them; ids of trees and commits are SHA-1 over canonical JSON.
"""

import hashlib
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.core.keys import canonical_json

Gated = Literal[False, "auto", "manual"]

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def git_blob_id(data: bytes) -> str:
    """Return git's id of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def record_id(value: object) -> str:
    """Return 40 hexadecimal digits that stand for value."""
    return hashlib.sha1(canonical_json(value), usedforsecurity=False).hexdigest()


class StoredFile(_Record):
    """One file of a tree. blob_id is git's id of the content, or of the pointer of an LFS file."""

    size_bytes: int
    sha256: str
    blob_id: str
    lfs: bool

    @classmethod
    def regular(cls, data: bytes, sha256: str) -> "StoredFile":
        """Return the record of a file that is kept in git itself."""
        return cls(size_bytes=len(data), sha256=sha256, blob_id=git_blob_id(data), lfs=False)

    @classmethod
    def large(cls, size_bytes: int, sha256: str) -> "StoredFile":
        """Return the record of a file that is kept in LFS."""
        pointer = LFS_POINTER.format(sha256=sha256, size=size_bytes).encode()
        return cls(size_bytes=size_bytes, sha256=sha256, blob_id=git_blob_id(pointer), lfs=True)

    @property
    def etag(self) -> str:
        """The content's identity as clients compare it."""
        return self.sha256 if self.lfs else self.blob_id

    @property
    def pointer_bytes(self) -> int:
        """The size of the LFS pointer file."""
        return len(LFS_POINTER.format(sha256=self.sha256, size=self.size_bytes))


class Commit(_Record):
    """A state of all files of a repository, and how it came about."""

    id: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, StoredFile]

    @classmethod
    def make(
        cls,
        parent: str | None,
        *,
        title: str,
        message: str,
        author: str,
        date: str,
        files: Mapping[str, StoredFile],
    ) -> "Commit":
        """Return a commit with the id that follows from everything in it."""
        draft = cls(
            id="",
            parent=parent,
            title=title,
            message=message,
            author=author,
            date=date,
            files=dict(files),
        )
        return draft.model_copy(update={"id": record_id(draft)})


class Repository(_Record):
    """A repository's settings and refs; the names of commits, not the commits."""

    id: str
    private: bool
    gated: Gated = False
    created_at: str
    branches: dict[str, str]
    tags: dict[str, str] = {}
