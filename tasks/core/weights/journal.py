"""The record of finished shards, so that a killed write resumes where it stopped.

A shard's entry is written after its bytes and its name have reached the disk. It names the work
that it belongs to: inputs, function, layout. An entry is trusted only for the same work, and only
after the shard's bytes have been hashed again.

The invariant: a shard without a valid entry is rewritten, whatever lies under its name.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.durable import fsync_directory, write_atomically

DIRECTORY = ".finished-shards"


class ShardJournal:
    """The entries for one piece of work, inside its output directory."""

    def __init__(
        self, out: Path, work: str, finished: Mapping[str, FileDigest] | None = None
    ) -> None:
        """finished are shards that this process has written or hashed itself."""
        self._mine = finished or {}
        self._out = out
        self._work = work
        self._directory = out / DIRECTORY

    def record(self, file: str, content: FileDigest) -> None:
        """Record that a shard is complete and on the disk."""
        self._directory.mkdir(exist_ok=True)
        fsync_directory(self._out)  # the shard's name, and this directory's
        entry = {"work": self._work, **asdict(content)}
        write_atomically(self._directory / f"{file}.json", json.dumps(entry))

    def finished(self, file: str) -> FileDigest | None:
        """Return the digest of a shard that this work has finished, after hashing it again."""
        path = self._out / file
        work, content = _read(self._directory / f"{file}.json")
        if work != self._work or content is None or not path.is_file():
            return None
        if self._mine.get(file) == content and path.stat().st_size == content.size_bytes:
            return content
        return content if digest_of(path) == content else None

    def close(self) -> None:
        """Remove the record: the directory is complete and no longer needs it."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _read(entry: Path) -> tuple[str | None, FileDigest | None]:
    """Return the work and the content that an entry names; (None, None) if it is malformed."""
    try:
        fields = json.loads(entry.read_bytes())
        return fields["work"], FileDigest(fields["size_bytes"], fields["sha256"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None, None
