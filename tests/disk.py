"""What is asked of the disk, in order: writes, fsyncs, and names given and taken away.

The calls are recorded where they leave Python (os) and carried out all the same. After a power cut
the disk holds for certain only what an fsync has covered: a file's bytes by its own, its name by
that of its directory.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Call:
    """One call: name, the file or directory that it is about, and that one's state before it.

    For a name that is given, what a power cut could still take from the thing that gets it
    (`unsynced`) and from what lies beside that thing in its directory (`unsynced_beside`).
    """

    name: str
    path: Path
    size_bytes: int = 0
    allocated_bytes: int = 0
    unsynced: tuple[str, ...] = ()
    unsynced_beside: tuple[str, ...] = ()


class DiskCalls(list[Call]):
    """The calls on files below a directory, in the order in which they were made."""

    def __init__(self, below: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._below, self._lock = below, threading.Lock()
        self._synced: dict[tuple[int, int], int] = {}
        for name in ("pwrite", "fsync", "rename", "replace", "unlink"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name)))

    def _recorded(self, name: str, call: Any) -> Any:
        def recorded(subject: Any, *rest: Any, **options: Any) -> Any:
            path = _path_of(subject, options.get("dir_fd"))
            if path.is_relative_to(self._below):
                with self._lock:
                    self.append(self._seen(name, path, rest))
            return call(subject, *rest, **options)

        return recorded

    def _seen(self, name: str, path: Path, rest: tuple[Any, ...]) -> Call:
        state = path.stat()
        if name == "fsync":
            self._synced[state.st_dev, state.st_ino] = state.st_mtime_ns
        allocated = state.st_blocks * 512
        if name not in ("rename", "replace"):
            return Call(name, path, state.st_size, allocated)
        beside = (other for other in path.parent.iterdir() if other != path)
        return Call(
            name,
            Path(rest[0]),
            state.st_size,
            allocated,
            tuple(self._unsynced([path])),
            tuple(self._unsynced(beside)),
        )

    def _unsynced(self, places: Iterable[Path]) -> Iterator[str]:
        """Yield files and directories that were changed after their last fsync, or never had one.

        Changed is what has another time of modification: a file's bytes, a directory's names.
        Another thread may rename or delete a file while this looks: what has no name is not there.
        """
        for place in places:
            for path in (place, *place.rglob("*")):
                try:
                    state = path.lstat()
                except FileNotFoundError:
                    continue
                if self._synced.get((state.st_dev, state.st_ino)) != state.st_mtime_ns:
                    yield str(path)

    def positions(self, path: Path, *names: str) -> list[int]:
        """Return where the calls of these names on a path stand."""
        return [i for i, call in enumerate(self) if call.path == path and call.name in names]

    def naming(self, path: Path) -> Call:
        """Return the one call that gave path its name, once its directory was synced after it."""
        (at,) = self.positions(path, "rename", "replace")
        assert any(i > at for i in self.positions(path.parent, "fsync")), "the name itself"
        return self[at]


def _path_of(subject: Any, directory: int | None) -> Path:
    if isinstance(subject, int):
        return Path(f"/proc/self/fd/{subject}").readlink()
    if directory is not None:
        return Path(f"/proc/self/fd/{directory}").readlink() / os.fsdecode(subject)
    return Path(os.fsdecode(subject))
