"""Files to and from a remote store: many at once, each whole and proved, or not there.

A file counts by its size and SHA-256 alone. The invariants: what is received gets its name only
after all its bytes were hashed on their way to the disk; what is sent counts only after all its
bytes were read back. Whatever was whole before is not moved again.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
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
from tasks.core.system.errors import names_path
from tasks.core.system.threads import run_all

if TYPE_CHECKING:
    from tasks.core.storage.directory import StorageDirectory

THREADS = 4
WAITS_S = (1.0, 4.0, 15.0)
"""Pauses before a file is tried again that could not be moved; the libraries insist as well."""

Tick = Callable[[int], None]
Move = Callable[[Tick], None]


@dataclass(frozen=True)
class Way:
    """Between a file of this machine and its place at the remote."""

    local: Path
    remote: str
    digest: FileDigest


def receive(
    place: "StorageDirectory",
    ways: Sequence[Way],
    *,
    here: Mapping[str, Path],
    on_progress: OnProgress = silent,
) -> None:
    """Bring files from the place to this machine. Those that `here` names by SHA-256 are linked.

    Raises CorruptRemote for a file that is missing there or is another one, StorageUnavailable,
    DiskFull.
    """
    if not ways:
        return
    missing = [w for w in ways if not w.local.exists() and w.digest.sha256 not in here]
    require_disk_space(ways[0].local.parent, _total(missing))
    _move_all([partial(_receive, place, way, here) for way in ways], _total(ways), on_progress)


def send(
    place: "StorageDirectory",
    ways: Sequence[Way],
    *,
    proved: frozenset[str],
    on_progress: OnProgress = silent,
    stop: Event | None = None,
) -> None:
    """Bring files from this machine to the place; `proved` names those that were whole there.

    Of these only the size is asked for: they may have been removed meanwhile.
    Raises Stopped once `stop` is set, CorruptArtifact when a file here is not what it should be,
    CorruptRemote when what arrives is not what was sent, StorageUnavailable, StorageRefused.
    """
    unique = {way.remote: way for way in ways}
    moves = [
        partial(_send, place, way, proved=way.digest.sha256 in proved) for way in unique.values()
    ]
    _move_all(moves, _total(list(unique.values())), on_progress, stop)


def _total(ways: Sequence[Way]) -> int:
    return sum(way.digest.size_bytes for way in ways)


def _move_all(
    moves: Sequence[Move], total_bytes: int, on_progress: OnProgress, stop: Event | None = None
) -> None:
    meter = _Meter(total_bytes, on_progress, stop or Event())
    calls = [partial(_insist, move, meter) for move in moves]
    run_all(calls, threads=THREADS, name="remote-store", stop=meter.stop.set)


class Stopped(Exception):
    """Another file of the same transfer failed, or the work was interrupted."""


class _Meter:
    """Counts the bytes of all files, and stops them all together."""

    def __init__(self, total_bytes: int, on_progress: OnProgress, stop: Event) -> None:
        self.stop = stop
        self._total, self._on_progress = total_bytes, on_progress
        self._done, self._lock = 0, Lock()

    def __call__(self, size_bytes: int) -> None:
        """Count bytes that were moved; negative ones turned out to be worthless."""
        if self.stop.is_set():
            raise Stopped
        with self._lock:
            self._done += size_bytes
        self._on_progress(min(self._done, self._total), self._total)


def _insist(move: Move, meter: _Meter) -> None:
    for wait_s in (*WAITS_S, None):
        counted = 0

        def tick(size_bytes: int) -> None:
            nonlocal counted
            counted += size_bytes
            meter(size_bytes)

        try:
            move(tick)
        except StorageUnavailable:
            if wait_s is None:
                raise
            meter(-counted)
            if meter.stop.wait(wait_s):
                raise Stopped from None
        else:
            return


def _receive(place: "StorageDirectory", way: Way, here: Mapping[str, Path], tick: Tick) -> None:
    target, wanted = way.local, way.digest
    target.parent.mkdir(parents=True, exist_ok=True)
    if _link(here.get(wanted.sha256), target) or target.exists():
        if digest_of(target) == wanted:
            tick(wanted.size_bytes)
            return
        target.unlink()
    part = target.with_name(TEMPORARY + target.name)
    for _ in range(2):
        if _stream(place, way, part, tick) == wanted:
            part.rename(target)
            return
        part.unlink()
    raise CorruptRemote(
        "A file at the remote store is missing or not what its name says.",
        where=f"{place.url}/{way.remote}",
        expected=wanted,
        found=place.digest(way.remote) or "no file",
    )


def _link(source: Path | None, target: Path) -> bool:
    if source is None or target.exists():
        return False
    try:
        link_or_copy(source, target)
    except FileNotFoundError:  # freed meanwhile
        return False
    return True


def _stream(place: "StorageDirectory", way: Way, part: Path, tick: Tick) -> FileDigest:
    """Write what is missing of a file, and return the digest of all of it."""
    sha256, size = hashlib.sha256(), 0
    with names_path(part), part.open("ab+") as file:
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            size += len(chunk)
            tick(len(chunk))
        for chunk in place.parts(way.remote, way.digest.size_bytes, size):
            file.write(chunk)
            sha256.update(chunk)
            size += len(chunk)
            tick(len(chunk))
    return FileDigest(size, sha256.hexdigest())


def _send(place: "StorageDirectory", way: Way, tick: Tick, *, proved: bool) -> None:
    """Send a file unless it is there; either way every byte of it is or was read back from there.

    A server's own word is not taken: some confirm a checksum that they have not compared.
    """
    there = place.size_bytes(way.remote)
    if there == way.digest.size_bytes and (proved or place.digest(way.remote) == way.digest):
        tick(way.digest.size_bytes)
        return
    for _ in range(2):
        place.send(way.local, way.remote, tick)
        if place.digest(way.remote) == way.digest:
            return
        tick(-way.digest.size_bytes)
    _require_unchanged(way)
    raise CorruptRemote(
        "What arrived at the remote store is not what was sent.",
        where=f"{place.url}/{way.remote}",
        expected=way.digest,
        found=place.digest(way.remote) or "no file",
        next_step="Run again: only what has not arrived is sent. If it stays so, the service or a "
        "proxy before it changes files.",
    )


def _require_unchanged(way: Way) -> None:
    found = digest_of(way.local)
    if found != way.digest:
        raise CorruptArtifact(
            "A file of an artifact has other bytes than when it was made.",
            where=way.local,
            expected=way.digest,
            found=found,
            next_step="Run again: the artifact is made anew.",
        )
