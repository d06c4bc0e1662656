"""Shards of safetensors, written in pieces by many threads and hashed in the same pass.

Covers preallocation, so that a full disk is noticed before the first byte; the order of hashing;
fsync and the journal. Does not know what the bytes mean. SHA-256 runs through a shard from the
first byte to the last, on one core at a time (1.5 GB/s), so several shards are written at once.

The invariant: a shard is recorded as finished only when each of its bytes is written, hashed in
order, and on the disk.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import torch

from tasks.core.errors import DiskFull
from tasks.core.files.digests import FileDigest
from tasks.core.files.disk_space import disk_is_full, free_bytes, require_disk_space
from tasks.core.files.listing import matching
from tasks.core.files.temporary import TEMPORARY
from tasks.core.system.errors import names_path
from tasks.core.system.threads import on_every_core
from tasks.core.weights.direct import OutputFile, ThreadBuffer, aligned_buffer
from tasks.core.weights.journal import ShardJournal
from tasks.core.weights.layout import INDEX_FILE, Layout, Shard, TensorPiece


class WriterAborted(Exception):
    """Another thread's piece has failed, so this thread would wait forever."""


class ShardedWriter:
    """Writes the shards of a layout into a directory, keeping those of an earlier attempt."""

    def __init__(
        self,
        out: Path,
        layout: Layout,
        work: str,
        spare_bytes: int = 0,
        *,
        finished: Mapping[str, FileDigest] | None = None,
        record: Literal["when finished", "on request"] = "when finished",
    ) -> None:
        """work identifies inputs and function, for the journal; spare_bytes are for other files.

        finished are shards that are kept without hashing them again. With record "on request", a
        finished shard does not survive this process until `record` is called for it.
        """
        self._out = out
        self._spare_bytes = spare_bytes
        self.layout = layout
        self._journal = ShardJournal(out, work, finished)
        self._record = record
        self._open: dict[str, _OpenShard] = {}
        self._staging = ThreadBuffer()
        self._turn = threading.Condition()
        self._aborted = False
        self.finished: dict[str, FileDigest] = {}
        self.kept: frozenset[str] = frozenset()

    def __enter__(self) -> Self:
        """Keep finished shards, remove files of other work, and preallocate the rest."""
        self._keep_finished()
        self._remove_leftovers()
        pending = [shard for shard in self.layout.shards if shard.file not in self.finished]
        require_disk_space(
            self._out, self._spare_bytes + sum(shard.size_bytes for shard in pending)
        )
        try:
            for shard in pending:
                self._open[shard.file] = _OpenShard(self._out / shard.file, shard)
        except BaseException:
            self._close_files()
            raise
        for shard in pending:
            if shard.tensor_bytes == 0:
                self._finish(self._open[shard.file])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close_files()

    def pending(
        self, shards_at_once: int = 1, of: Sequence[Shard] | None = None
    ) -> Iterator[TensorPiece]:
        """Yield the pieces to write, of these shards or of all, alternating between some at once.

        Pieces of one shard come in the order of its bytes; when a shard ends, the next one begins.
        """
        wanted = self.layout.shards if of is None else of
        shards = (shard.pieces() for shard in wanted if shard.file not in self.kept)
        begun = deque(islice(shards, shards_at_once))
        while begun:
            pieces = begun.popleft()
            piece = next(pieces, None)
            if piece is None:
                begun.extend(islice(shards, 1))
            else:
                begun.append(pieces)
                yield piece

    def write(self, piece: TensorPiece, data: memoryview) -> None:
        """Write a piece, wait until all pieces before it in its shard are hashed, and hash it.

        Pieces must be taken from `pending` in order, and each written by its own thread or after
        the one before it: then the first piece in progress never waits. Raises WriterAborted when
        the pieces before it can no longer arrive.
        """
        shard = self._open[piece.file]
        shard.write(data, piece.offset, self._staging.of(len(data)))
        with self._turn:
            self._turn.wait_for(lambda: self._aborted or shard.hashed_bytes == piece.offset)
            if self._aborted:
                raise WriterAborted
        shard.hash(data)
        with self._turn:
            self._turn.notify_all()
        if piece.offset + len(data) == shard.size_bytes:
            self._finish(shard)

    def abort(self) -> None:
        """Wake all threads that wait to hash."""
        with self._turn:
            self._aborted = True
            self._turn.notify_all()

    def record(self, file: str) -> None:
        """Enter a finished shard into the journal."""
        self._journal.record(file, self.finished[file])

    def close_journal(self) -> None:
        """Remove the journal; only once everything that belongs to the model is written."""
        self._journal.close()

    def _keep_finished(self) -> None:
        files = [shard.file for shard in self.layout.shards]
        contents = on_every_core(
            [partial(self._journal.finished, file) for file in files], name="kept-shards"
        )
        for file, content in zip(files, contents, strict=True):
            if content is not None:
                self.finished[file] = content
        self.kept = frozenset(self.finished)

    def _remove_leftovers(self) -> None:
        """Remove weights and half-written files that an earlier attempt left."""
        for pattern in ("*.safetensors", INDEX_FILE, f"{TEMPORARY}*"):
            for path in matching(self._out, pattern):
                if path.name not in self.finished:
                    path.unlink()

    def _finish(self, shard: "_OpenShard") -> None:
        self.finished[shard.path.name] = shard.finish()
        if self._record == "when finished":
            self.record(shard.path.name)

    def _close_files(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


class _OpenShard:
    """One file under construction."""

    def __init__(self, path: Path, shard: Shard) -> None:
        self.path = path
        self.size_bytes = shard.size_bytes
        self.hashed_bytes = 0
        self._sha256 = hashlib.sha256()
        try:
            with names_path(path):
                self._file = OutputFile(path, shard.size_bytes)
        except OSError as error:
            raise self._explained(error) from error
        try:
            header = memoryview(shard.header)
            self.write(header, 0, aligned_buffer(len(header)))
            self.hash(header)
        except BaseException:
            self.close()
            raise

    def write(self, data: memoryview, offset: int, staging: torch.Tensor) -> None:
        try:
            with names_path(self.path):
                self._file.write(data, offset, staging)
        except OSError as error:
            raise self._explained(error) from error

    def hash(self, data: memoryview) -> None:
        self._sha256.update(data)
        self.hashed_bytes += len(data)

    def finish(self) -> FileDigest:
        try:
            with names_path(self.path):
                self._file.close_synced()
        except OSError as error:
            raise self._explained(error) from error
        return FileDigest(self.size_bytes, self._sha256.hexdigest())

    def close(self) -> None:
        self._file.close()

    def _explained(self, error: OSError) -> OSError | DiskFull:
        if not disk_is_full(error):
            return error
        return DiskFull(
            "The disk filled up while a shard was being written.",
            where=self.path,
            expected=f"{self.size_bytes / 1e9:.2f} GB for this shard",
            found=f"{free_bytes(self.path.parent) / 1e9:.2f} GB free",
            next_step="Free some space and start again: finished shards are kept.",
        )
