"""File contents of the embedded Hub, each kept once under its SHA-256.

The invariant: a name in the store is given by a rename, after the bytes behind it were hashed and
have reached the disk. What a killed upload leaves lies in `incoming/` and is removed at start.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tasks.core.files.durable import fsync_directory, make_directory
from tasks.core.files.private import private_directory
from tasks.core.system.errors import names_path

_SHA256 = re.compile(r"^[0-9a-f]{64}$")


class Incoming:
    """A content that is being received; `sha256` and `size_bytes` are those of the bytes so far."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path = path
        self.size_bytes = 0
        self._file = file
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes so far."""
        return self._hash.hexdigest()

    def sync(self) -> None:
        """Return when all bytes so far are on the disk."""
        with names_path(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        with names_path(self.path):
            self._file.write(chunk)
        self._hash.update(chunk)
        self.size_bytes += len(chunk)


class BlobStore:
    """Contents by SHA-256 under one directory. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._objects = root / "objects"
        self._incoming = root / "incoming"
        shutil.rmtree(self._incoming, ignore_errors=True)
        for directory in (self._objects, self._incoming):
            private_directory(directory)  # private repositories have their contents here too

    def path(self, sha256: str) -> Path:
        """Return where a content lies, or would lie."""
        if not _SHA256.match(sha256):
            raise ValueError(f"{sha256!r} is not a SHA-256")
        return self._objects / sha256[:2] / sha256[2:]

    def has(self, sha256: str) -> bool:
        """Return whether a content is here, whole."""
        return self.path(sha256).exists()

    @contextmanager
    def receive(self) -> Iterator[Incoming]:
        """Yield a content to write to; it is discarded unless `keep` takes it."""
        with tempfile.NamedTemporaryFile(dir=self._incoming, delete=False) as file:
            path = Path(file.name)
            try:
                yield Incoming(path, file)
            finally:
                path.unlink(missing_ok=True)

    def keep(self, incoming: Incoming) -> str:
        """Give an arrived content its name, and return its SHA-256."""
        target = self.path(incoming.sha256)
        if not target.exists():
            make_directory(target.parent)
            incoming.sync()
            incoming.path.rename(target)
            fsync_directory(target.parent)
        return incoming.sha256

    def add(self, data: bytes) -> str:
        """Keep data, and return its SHA-256."""
        with self.receive() as incoming:
            incoming.write(data)
            return self.keep(incoming)
