"""Lines appended to a file that only its owner can read.

The invariant: appended lines are on disk, and a reader sees whole lines only: what a power cut or a
kill left of a line stays a separate, unreadable line.
"""

import os
from pathlib import Path

from tasks.core.files.durable import fsync_directory
from tasks.core.files.private import keep_private
from tasks.core.system.errors import names_path


def append(path: Path, lines: bytes) -> None:
    """Append whole lines to the file, created if missing. The caller holds the lock.

    Nothing is appended on an error. Raises OSError, and UsageError for the file of another user.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        keep_private(path)
        before = os.fstat(fd).st_size
        with names_path(path):
            is_torn = before > 0 and os.pread(fd, 1, before - 1) != b"\n"
        try:
            with names_path(path):
                _write_all(fd, b"\n" * is_torn + lines)
                os.fsync(fd)
            fsync_directory(path.parent)
        except OSError:
            os.ftruncate(fd, before)  # half a line would corrupt the next one too
            raise
    finally:
        os.close(fd)


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]
