"""A file's bytes under a second name: by a hard link, a reflink or a copy."""

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
    writes in place: a hard link shares its bytes with source for ever.
    """
    try:
        target.hardlink_to(source)
        return "hardlink"
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
    return clone_or_copy(source, target)


def clone_or_copy(source: Path, target: Path) -> LinkMethod:
    """Give target bytes of its own, equal to those of source, and return how.

    A reflink (copy on write) where the file system has it, else a copy. Either file may be
    written afterwards without a trace in the other.
    """
    with names_path(target), source.open("rb") as src, target.open("wb") as dst:
        if share_blocks(src, dst):
            return "reflink"
        shutil.copyfileobj(src, dst, CHUNK_BYTES)
    return "copy"


def share_blocks(source: BinaryIO, target: BinaryIO) -> bool:
    """Make target a reflink of source; return False where the file system has none."""
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True
