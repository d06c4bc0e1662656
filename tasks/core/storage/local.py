"""Local directories as storage: files appear complete or not at all, as in an object store."""

import errno
from collections.abc import Callable
from pathlib import Path

from tasks.core.errors import StorageRefused
from tasks.core.files.copies import CHUNK_BYTES
from tasks.core.files.durable import fsync_directory, named_when_whole, write_atomically
from tasks.core.files.temporary import scratch_directory
from tasks.core.system.errors import names_path


def copy(source: Path, target: Path, sent: Callable[[int], None] | None) -> None:
    """Copy a file under a temporary name, and rename it once it is on the disk."""
    with named_when_whole(target) as out, names_path(source), source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            out.write(chunk)
            if sent is not None:
                sent(len(chunk))


def link_new(content: bytes, target: Path) -> None:
    """Create a file with this content. Raises FileExistsError if the name exists.

    Raises StorageRefused where the file system has no hard links: any other way to create a file
    exclusively would show others half of it.
    """
    with scratch_directory("new", beside=target.parent) as directory:
        made = directory / target.name
        write_atomically(made, content)
        try:
            target.hardlink_to(made)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            raise StorageRefused(
                "The file system has no hard links, which decide between several writers.",
                where=target.parent,
                found=error,
                next_step="Use a directory on a file system that has them, such as NFS, ext4 or "
                "XFS, or a bucket.",
            ) from error
    fsync_directory(target.parent)
