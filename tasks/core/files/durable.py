"""Files that are whole or not there: atomic replacement, with the syncs that it needs.

The invariant: a name that a reader may trust is only ever given by `os.rename`, after the bytes
behind it have reached the disk.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tasks.core.files.listing import refuse
from tasks.core.files.temporary import new_file
from tasks.core.system.errors import names_path


def write_atomically(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Replace the content of path, so that a reader sees either all of the old or all of the new.

    Until the file has its name, only its owner can read it. For secrets: `private.write_private`.
    """
    with named_when_whole(path, mode=mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def named_when_whole(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yield a new file, which is moved to path once the block has ended and all is on the disk.

    After an error the new file is gone and the old content stands. A killed process leaves a
    temporary file, which the next write in that directory removes.
    """
    with new_file(path.parent) as (fd, written):
        with names_path(path), os.fdopen(fd, "wb", closefd=False) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        written.chmod(mode)
        written.rename(path)
    fsync_directory(path.parent)


def make_directory(path: Path, *, mode: int = 0o777) -> None:
    """Make path a directory, with its parents; return once each new name is on the disk.

    Without these names a power cut loses everything that was synced inside.
    """
    new = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(mode, parents=True, exist_ok=True)
    for each in new:
        fsync_directory(each.parent)


def take_back(path: Path) -> None:
    """Remove a file that vouches for others; return once it is gone from the disk."""
    path.unlink(missing_ok=True)
    fsync_directory(path.parent)


def fsync_file(path: Path) -> None:
    """Return when the bytes of path are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with names_path(path):
            os.fsync(fd)
    finally:
        os.close(fd)


def fsync_directory(path: Path) -> None:
    """Return when the names inside path are on the disk."""
    fsync_file(path)


def fsync_tree(root: Path) -> None:
    """Return when every file and directory under root is on the disk."""
    for directory, _, names in os.walk(root, onerror=refuse):
        for name in names:
            fsync_file(Path(directory, name))
        fsync_directory(Path(directory))
