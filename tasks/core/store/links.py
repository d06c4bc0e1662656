"""The bytes that a removal really frees: a file with hard links is freed with its last link."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.files.listing import refuse

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own is


@dataclass(frozen=True)
class Gain:
    """What removing one directory frees, given that all directories in question are removed.

    freed_bytes counts each file once over all directories; gone_bytes also counts what the
    directory shares with another one of them; size_bytes is everything that it holds.
    """

    freed_bytes: int
    gone_bytes: int
    size_bytes: int


def gains(directories: Sequence[Path]) -> list[Gain]:
    """Return what removing all of them frees, by directory. Reflinks are not detected."""
    files = [list(_files(directory)) for directory in directories]
    links = Counter(_inode(info) for found in files for info in found)
    counted: set[tuple[int, int]] = set()
    result = []
    for found in files:
        freed = gone = 0
        own = {_inode(info): info for info in found}
        for inode, info in own.items():
            if links[inode] >= info.st_nlink:
                gone += info.st_blocks * _BLOCK_BYTES
                freed += 0 if inode in counted else info.st_blocks * _BLOCK_BYTES
                counted.add(inode)
        size = sum(info.st_blocks * _BLOCK_BYTES for info in own.values())
        result.append(Gain(freed, gone, size))
    return result


def _files(directory: Path) -> Iterator[os.stat_result]:
    for root, _, names in os.walk(directory, onerror=refuse):
        for name in names:
            try:
                yield Path(root, name).lstat()
            except FileNotFoundError:  # removed since it was listed
                continue


def _inode(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino
