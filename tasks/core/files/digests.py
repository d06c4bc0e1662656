"""The identity of files: the SHA-256 of their bytes, or the state that the file system reports.

A digest proves the bytes. A state, which is read without opening the file, only shows that they may
have changed since the last look.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from pydantic import JsonValue

from tasks.core.files.listing import paths_below
from tasks.core.system.errors import names_path
from tasks.core.system.threads import on_every_core

_SETTLED_S = 2.0  # a file that is younger may change again within the same tick of its times


@dataclass(frozen=True)
class FileDigest:
    """Size and SHA-256 of a file."""

    size_bytes: int
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in constant memory."""
    with names_path(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(path: Path) -> FileDigest:
    """Return size and SHA-256 of a file's bytes, in constant memory."""
    return FileDigest(path.stat().st_size, sha256_of(path))


def digests_of(paths: Sequence[Path]) -> list[FileDigest]:
    """Return size and SHA-256 of each file, hashing one file per core at a time."""
    return on_every_core([partial(digest_of, path) for path in paths], name="hash")


def sha256_of_state(path: Path) -> str:
    """Return the SHA-256 of a file, computed anew only when the file's state has changed.

    For inputs that several stages read, not for proofs: damage that leaves size and times as they
    were goes unnoticed.
    """
    stat = path.stat()
    if time.time() - max(stat.st_mtime, stat.st_ctime) < _SETTLED_S:
        return sha256_of(path)
    return _sha256_of_state(path.resolve(), *_state(stat))


@lru_cache(maxsize=64)
def _sha256_of_state(path: Path, *_: int) -> str:
    return sha256_of(path)


def state_of(path: Path) -> JsonValue:
    """Return a value that changes whenever the files under path may have changed.

    Made of name, size, inode and times of each file; none is read. A file that is replaced or
    written in place has another state, even if its size and modification time were set back.
    """
    files = paths_below(path) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return [[str(file.relative_to(path)), *_state(stat)] for file, stat in stats]


def _state(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns
