"""A second name for a file's bytes: a hard link, a reflink or a copy."""

import errno
import fcntl
import shutil
from pathlib import Path
from typing import BinaryIO, Literal

from tasks.core.system.errors import names_path

CHUNK_BYTES = 1 << 20
_FICLONE = 0x40049409  # linux/fs.h

LinkMethod = Literal["hardlink", "reflink", "copy"]


def link_or_copy(source: Path, target: Path) -> LinkMethod:
    """Give target the bytes of source by the cheapest method available; return which.

    A hard link first, then a reflink (copy on write), then a copy. Only for files that nobody
    writes in place: a hard link shares its bytes with source for good.
    """
    try:
        target.hardlink_to(source)
        return "hardlink"
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
    return clone_or_copy(source, target)


def clone_or_copy(source: Path, target: Path) -> LinkMethod:
    """Copy the bytes of source to target by the cheapest method available; return which.

    A reflink (copy on write) where the file system has them, else a copy. Writing to either file
    afterwards leaves the other unchanged.
    """
    with names_path(target), source.open("rb") as src, target.open("wb") as dst:
        if share_blocks(src, dst):
            return "reflink"
        shutil.copyfileobj(src, dst, CHUNK_BYTES)
    return "copy"


def share_blocks(source: BinaryIO, target: BinaryIO) -> bool:
    """Make target a reflink of source; return False where the file system has no reflinks."""
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True
