"""How much space a disk has left, and the error for one that is full."""

import errno
import shutil
from pathlib import Path

from tasks.core.errors import DiskFull


def disk_is_full(error: BaseException) -> bool:
    """Return whether an error means that the disk or the user's quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def free_bytes(path: Path) -> int:
    """Return how many bytes this user may still write to the disk that holds path."""
    existing = path
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_disk_space(path: Path, needed_bytes: int) -> None:
    """Raise DiskFull unless needed_bytes fit on the disk that holds path."""
    free = free_bytes(path)
    if free < needed_bytes:
        raise DiskFull(
            "There is not enough space on the disk.",
            where=path,
            expected=f"{needed_bytes / 1e9:.2f} GB",
            found=f"{free / 1e9:.2f} GB free",
            next_step="Free some space, or set KAWAN_USAHA_HOME to a larger disk.",
        )
