"""A file as the Hub announces it, and arriving bytes compared with the announcement.

The Hub names the SHA-256 of large files (LFS) and the git blob id of small ones.
"""

import hashlib
from dataclasses import dataclass

from tasks.core.files.digests import FileDigest


@dataclass(frozen=True)
class HubFile:
    """A file in the Hub's metadata. sha256 is None for small files, which are not in LFS."""

    path: str
    size_bytes: int
    sha256: str | None
    blob_id: str

    def __str__(self) -> str:
        identity = f"SHA-256 {self.sha256}" if self.sha256 else f"git {self.blob_id}"
        return f"{self.size_bytes} bytes, {identity}"


class Content:
    """Hashes the bytes of one file as they pass, and compares the whole with the announcement."""

    def __init__(self, file: HubFile) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
        self.size_bytes = 0

    def update(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._sha256.update(chunk)
        if self._file.sha256 is None:
            self._git.update(chunk)
        self.size_bytes += len(chunk)

    def digest(self) -> FileDigest | None:
        """Return the digest of all bytes, None when they are not what the Hub announced."""
        if self.size_bytes != self._file.size_bytes:
            return None
        sha256 = self._sha256.hexdigest()
        if self._file.sha256 is None:
            right = self._git.hexdigest() == self._file.blob_id
        else:
            right = sha256 == self._file.sha256
        return FileDigest(self.size_bytes, sha256) if right else None
