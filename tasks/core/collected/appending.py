"""Lines added to the end of a file: whole on the disk, or not there.

The invariant: what a power cut left of a line stays a line apart, and spoils no other.
"""

import os
from pathlib import Path

from tasks.core.files import fsync_directory
from tasks.core.private import keep_private
from tasks.core.system_errors import names_path

_MODE = 0o600


def append(path: Path, line: bytes) -> None:
    """Add a line, its end included, and return when it is on the disk. The caller holds the lock.

    Raises OSError, after which the file is as it was, and UsageError for the file of another user.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
    try:
        keep_private(path)
        before = os.fstat(fd).st_size
        with names_path(path):
            is_torn = before > 0 and os.pread(fd, 1, before - 1) != b"\n"
        try:
            with names_path(path):
                _write_all(fd, b"\n" * is_torn + line)
                os.fsync(fd)
        except OSError:
            os.ftruncate(fd, before)  # half a line would spoil the next one too
            raise
        if before == 0:
            fsync_directory(path.parent)
    finally:
        os.close(fd)


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]
