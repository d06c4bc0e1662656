"""What the engine asks of the disk, in order: writes, fsyncs, and names given and taken away.

The calls are recorded where they leave Python (os) and carried out all the same.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Call:
    """One call: name, the file or directory that it is about, and that one's state before it."""

    name: str
    path: Path
    size_bytes: int = 0
    allocated_bytes: int = 0


class DiskCalls(list[Call]):
    """The calls on files below a directory, in the order in which they were made."""

    def __init__(self, below: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._below, self._lock = below, threading.Lock()
        for name in ("pwrite", "fsync"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name)))
        for name in ("rename", "replace", "unlink"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name)))

    def _recorded(self, name: str, call: Any) -> Any:
        def recorded(subject: Any, *rest: Any, **options: Any) -> Any:
            path = _path_of(subject, options.get("dir_fd"))
            if path.is_relative_to(self._below):
                state = path.stat()
                target = Path(rest[0]) if name in ("rename", "replace") else path
                with self._lock:
                    self.append(Call(name, target, state.st_size, state.st_blocks * 512))
            return call(subject, *rest, **options)

        return recorded

    def positions(self, path: Path, *names: str) -> list[int]:
        """Return where the calls of these names on a path stand."""
        return [i for i, call in enumerate(self) if call.path == path and call.name in names]


def _path_of(subject: Any, directory: int | None) -> Path:
    if isinstance(subject, int):
        return Path(f"/proc/self/fd/{subject}").readlink()
    if directory is not None:
        return Path(f"/proc/self/fd/{directory}").readlink() / os.fsdecode(subject)
    return Path(os.fsdecode(subject))
