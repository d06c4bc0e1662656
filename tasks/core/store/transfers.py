"""Files to and from a remote store: several at once, each complete and verified, or not there.

A file is identified by its size and SHA-256 alone. The invariants: a received file gets its name
only after all its bytes were hashed on their way to the disk; a sent file counts only after all its
bytes were read back. What is complete already is not transferred again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

from tasks.core.errors import CorruptArtifact, CorruptRemote, StorageUnavailable
from tasks.core.files.copies import CHUNK_BYTES, link_or_copy
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.disk_space import require_disk_space
from tasks.core.files.temporary import TEMPORARY
from tasks.core.progress import OnProgress, silent
from tasks.core.retry import retrying
from tasks.core.system.errors import names_path
from tasks.core.system.threads import run_all

if TYPE_CHECKING:
    from tasks.core.storage.directory import StorageDirectory

THREADS = 4
WAITS_S = (1.0, 4.0, 15.0)
"""Pauses before a file is tried again; the storage libraries retry as well."""

Count = Callable[[int], None]
"""Called with the bytes just moved; negative ones have to be moved again."""
Move = Callable[[Count], None]


@dataclass(frozen=True)
class FilePair:
    """A file of this machine and its place at the remote store."""

    local: Path
    remote: str
    digest: FileDigest


class TransferStopped(Exception):
    """Another file of the same transfer failed, or the work was interrupted."""


class Transfer:
    """Moves files between this machine and a place, all of them or an error.

    Both directions raise TransferStopped once `stop` is set.
    """

    def __init__(
        self,
        place: "StorageDirectory",
        on_progress: OnProgress = silent,
        *,
        stop: Event | None = None,
    ) -> None:
        self._place, self._on_progress = place, on_progress
        self._stop = stop or Event()

    def receive(self, pairs: Sequence[FilePair], *, here: Mapping[str, Path]) -> None:
        """Fetch files. Those that `here` names by SHA-256 are linked instead.

        Raises CorruptRemote for a file that is missing there or has other content,
        StorageUnavailable, DiskFull.
        """
        if not pairs:
            return
        missing = [p for p in pairs if not p.local.exists() and p.digest.sha256 not in here]
        require_disk_space(pairs[0].local.parent, _total_bytes(missing))
        self._move([partial(self._receive, pair, here) for pair in pairs], _total_bytes(pairs))

    def send(self, pairs: Sequence[FilePair], *, proved: frozenset[str]) -> None:
        """Send files; `proved` names by SHA-256 those that were read back before.

        Of these only the size is compared, since they may have been removed meanwhile. Raises
        CorruptArtifact when a file here is not what it should be, CorruptRemote when what arrives
        is not what was sent, StorageUnavailable, StorageRefused.
        """
        unique = list({pair.remote: pair for pair in pairs}.values())
        moves = [partial(self._send, p, is_proved=p.digest.sha256 in proved) for p in unique]
        self._move(moves, _total_bytes(unique))

    def _move(self, moves: Sequence[Move], total_bytes: int) -> None:
        meter = _Meter(total_bytes, self._on_progress, self._stop)
        calls = [partial(_retrying, move, meter) for move in moves]
        run_all(calls, threads=THREADS, name="remote-store", stop=self._stop.set)

    def _receive(self, pair: FilePair, here: Mapping[str, Path], count: Count) -> None:
        target, wanted = pair.local, pair.digest
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(here.get(wanted.sha256), target)
        if target.exists():
            if digest_of(target) == wanted:
                count(wanted.size_bytes)
                return
            target.unlink()
        part = target.with_name(TEMPORARY + target.name)
        for _ in range(2):
            if self._stream(pair, part, count) == wanted:
                part.rename(target)
                return
            part.unlink()
        raise CorruptRemote(
            "A file at the remote store is missing or does not match its name.",
            where=f"{self._place.url}/{pair.remote}",
            expected=wanted,
            found=self._place.digest(pair.remote) or "no file",
        )

    def _stream(self, pair: FilePair, part: Path, count: Count) -> FileDigest:
        """Download what is missing of a file; return the digest of all of it."""
        sha256, size = hashlib.sha256(), 0
        with names_path(part), part.open("ab+") as file:
            file.seek(0)
            while chunk := file.read(CHUNK_BYTES):
                sha256.update(chunk)
                size += len(chunk)
                count(len(chunk))
            for chunk in self._place.parts(pair.remote, pair.digest.size_bytes, size):
                file.write(chunk)
                sha256.update(chunk)
                size += len(chunk)
                count(len(chunk))
        return FileDigest(size, sha256.hexdigest())

    def _send(self, pair: FilePair, count: Count, *, is_proved: bool) -> None:
        """Send a file unless it is there; either way all its bytes are or were read back.

        The server's own word is not enough: some confirm a checksum without comparing it.
        """
        size = self._place.size_bytes(pair.remote)
        if size == pair.digest.size_bytes and (is_proved or self._arrived(pair)):
            count(pair.digest.size_bytes)
            return
        for _ in range(2):
            self._place.send(pair.local, pair.remote, count)
            if self._arrived(pair):
                return
            count(-pair.digest.size_bytes)
        _require_unchanged(pair)
        raise CorruptRemote(
            "The remote store holds other bytes than were sent.",
            where=f"{self._place.url}/{pair.remote}",
            expected=pair.digest,
            found=self._place.digest(pair.remote) or "no file",
            next_step="Run again: only what has not arrived is sent. If it happens again, the "
            "service or a proxy in front of it changes files.",
        )

    def _arrived(self, pair: FilePair) -> bool:
        return self._place.digest(pair.remote) == pair.digest


class _Meter:
    """Counts the bytes of all files, and stops all of them together."""

    def __init__(self, total_bytes: int, on_progress: OnProgress, stop: Event) -> None:
        self.stop = stop
        self._total, self._on_progress = total_bytes, on_progress
        self._done, self._lock = 0, Lock()

    def __call__(self, size_bytes: int) -> None:
        if self.stop.is_set():
            raise TransferStopped
        with self._lock:
            self._done += size_bytes
        self._on_progress(min(self._done, self._total), self._total)

    def pause(self, seconds: float) -> None:
        """Return after so long. Raises TransferStopped as soon as the transfer is to stop."""
        if self.stop.wait(seconds):
            raise TransferStopped


def _retrying(move: Move, meter: "_Meter") -> None:
    """Move a file, with pauses in between while the storage is unavailable."""
    counted = 0

    def count(size_bytes: int) -> None:
        nonlocal counted
        counted += size_bytes
        meter(size_bytes)

    def discount(*_: object) -> None:
        count(-counted)

    retrying(StorageUnavailable, WAITS_S, on_wait=discount, sleep=meter.pause)(move, count)


def _total_bytes(pairs: Sequence[FilePair]) -> int:
    return sum(pair.digest.size_bytes for pair in pairs)


def _link(source: Path | None, target: Path) -> None:
    if source is not None and not target.exists():
        with suppress(FileNotFoundError):  # freed meanwhile
            link_or_copy(source, target)


def _require_unchanged(pair: FilePair) -> None:
    found = digest_of(pair.local)
    if found != pair.digest:
        raise CorruptArtifact(
            "A file of an artifact has changed since it was made.",
            where=pair.local,
            expected=pair.digest,
            found=found,
            next_step="Run again: the artifact is built anew.",
        )
