"""Files that are whole or not there: fsync, atomic replacement, links, room on the disk.

The invariant: a name that a reader may trust is only ever given by `os.rename`, after the bytes
behind it have reached the disk.
"""

import errno
import fcntl
import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import JsonValue

from tasks.core.errors import DiskFull, UsageError
from tasks.core.files.listing import paths_below, refuse
from tasks.core.files.temporary import new_file
from tasks.core.keys import digest
from tasks.core.system.errors import names_path
from tasks.core.system.threads import on_every_core

CHUNK_BYTES = 1 << 20
WORK = ".work"  # in a staging directory: the digest of the work that it belongs to
_NO_PLACE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.ENOENT,  # /proc makes no directory
    errno.EEXIST,
    errno.ENAMETOOLONG,
)
_WRITABLE_PLACE = "Name a directory in a place where you may write, not below a file."
_SETTLED_S = 2.0  # a file that is younger may change again within the same tick of its times
_FICLONE = 0x40049409  # linux/fs.h


@dataclass(frozen=True)
class FileDigest:
    """What a file's bytes are known by."""

    size_bytes: int
    sha256: str


LinkMethod = Literal["hardlink", "reflink", "copy"]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in constant memory."""
    with names_path(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_state(path: Path) -> str:
    """Return the SHA-256 of a file that several stages read, computed once a state of it.

    For inputs, not for proofs: a file that was damaged without a trace in its times is not noticed.
    """
    stat = path.stat()
    if time.time() - max(stat.st_mtime, stat.st_ctime) < _SETTLED_S:
        return sha256_of(path)
    return _sha256_of_state(path.resolve(), *_state(stat))


@lru_cache(maxsize=64)
def _sha256_of_state(path: Path, *_: int) -> str:
    return sha256_of(path)


def _state(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


def digest_of(path: Path) -> FileDigest:
    """Return size and SHA-256 of a file's bytes, in constant memory."""
    return FileDigest(path.stat().st_size, sha256_of(path))


def digests_of(paths: Sequence[Path]) -> list[FileDigest]:
    """Return size and SHA-256 of each file's bytes, as many files at once as there are cores."""
    return on_every_core([partial(digest_of, path) for path in paths], name="hash")


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


def make_directory(path: Path, *, mode: int = 0o777) -> None:
    """Return when path is a directory, and each directory made for it has its name on the disk.

    Without these names a power cut takes all that was synced inside.
    """
    new = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(mode, parents=True, exist_ok=True)
    for each in new:
        fsync_directory(each.parent)


def take_back(path: Path) -> None:
    """Remove a file that vouches for others. It is gone from the disk before they may change."""
    path.unlink(missing_ok=True)
    fsync_directory(path.parent)


def fsync_tree(root: Path) -> None:
    """Return when every file and directory under root is on the disk."""
    for directory, _, names in os.walk(root, onerror=refuse):
        for name in names:
            fsync_file(Path(directory, name))
        fsync_directory(Path(directory))


def write_atomically(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Give path this content, so that a reader sees either all of the old or all of the new.

    Until it has its name, only its owner can read it. For a secret see `private.write_private`.
    """
    with named_when_whole(path, mode=mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def named_when_whole(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yield a new file, which gets this path once the block has ended and all is on the disk.

    After an error nothing is left of it, and what was at path is still there; after a kill, until
    the next file is written in its directory.
    """
    with new_file(path.parent) as (fd, written):
        with names_path(path), os.fdopen(fd, "wb", closefd=False) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        written.chmod(mode)
        written.rename(path)
    fsync_directory(path.parent)


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


def disk_is_full(error: BaseException) -> bool:
    """Tell whether an error means that the disk, or the user's share of it, has no room left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def free_bytes(path: Path) -> int:
    """Return the bytes that this user may still write on the disk that holds path."""
    existing = path
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_room(path: Path, needed_bytes: int) -> None:
    """Raise DiskFull unless needed_bytes fit on the disk that holds path."""
    free = free_bytes(path)
    if free < needed_bytes:
        raise DiskFull(
            "There is not enough room on the disk.",
            where=path,
            expected=f"{needed_bytes / 1e9:.2f} GB",
            found=f"{free / 1e9:.2f} GB free",
            next_step="Free some space, or set KAWAN_USAHA_HOME to a larger disk.",
        )


@contextmanager
def staged_directory(out: Path, work: object, *, resumes: bool = True) -> Iterator[Path]:
    """Yield a directory to write into; when the block ends well, it becomes `out`.

    work is what the result depends on: inputs (`state_of`), settings, the code that writes. The
    staging directory `<out>.partial` names it in a small file, and only the same work continues
    there: what any other work left is removed first. After an exception or a kill it stays for the
    next attempt, unless nothing was written yet or resumes is False, which is for work that begins
    anew each time. Raises UsageError when `out` exists and is not empty, or cannot be made.
    """
    out = out.resolve()
    require_new(out)
    staging = _staging_of(out)
    _open_staging(staging, digest(work))
    try:
        yield staging
    except BaseException as stop:
        if resumes and any(path.is_file() for path in _written(staging)):
            stop.add_note(f"What was done is kept in {staging}.")
        else:
            shutil.rmtree(staging)
        raise
    fsync_tree(staging)
    (staging / WORK).unlink(missing_ok=True)
    if out.exists():
        out.rmdir()
    staging.rename(out)
    fsync_directory(out.parent)


def state_of(path: Path) -> JsonValue:
    """Return what differs whenever the files under path may, without reading them.

    Name, size, inode and times of each file: a file that is replaced or written in place, even one
    whose size and modification time were set back, has another state.
    """
    files = paths_below(path) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return [[str(file.relative_to(path)), *_state(stat)] for file, stat in stats]


def require_new(out: Path) -> None:
    """Return when a directory can be made there; else raise UsageError. Makes nothing."""
    staging = _staging_of(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            "The output directory exists already.",
            where=out,
            next_step="Name a new directory, or remove this one first.",
        )
    if staging.is_symlink() or (staging.exists() and not staging.is_dir()):
        raise UsageError(
            "What is written first has no place: something else has its name.",
            where=staging,
            expected="a directory, or nothing",
            next_step="Move it away, or name another output directory.",
        )
    parent = next(each for each in out.absolute().parents if each.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(
            "The output directory cannot be made.",
            where=parent,
            found="a directory where you may not write" if parent.is_dir() else "a file",
            next_step=_WRITABLE_PLACE,
        )


def require_file_place(path: Path) -> None:
    """Return when a file can be written there; else raise UsageError. Writes nothing."""
    parent = path.absolute().parent
    found = None
    if path.is_dir():
        found = "a directory"
    elif not parent.is_dir():
        found = "a file in place of its directory" if parent.exists() else "no directory for it"
    elif not os.access(parent, os.W_OK | os.X_OK):
        found = "a directory where you may not write"
    if found is not None:
        raise UsageError(
            "The output file cannot be written.",
            where=path,
            found=found,
            next_step=f"`mkdir -p {shlex.quote(str(parent))}`, or name another file."
            if not parent.exists()
            else "Name another file.",
        )


def _staging_of(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def _open_staging(staging: Path, work: str) -> None:
    """Make the directory that names this work, empty unless it named the same work before."""
    try:
        make_directory(staging)
        name = staging / WORK
        if not name.is_file() or name.read_text() != work:
            take_back(name)
            empty_directory(staging)
            fsync_directory(staging)
            write_atomically(name, work)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise UsageError(
            "The output directory cannot be made.",
            where=staging.parent,
            found=error.strerror,
            next_step=_WRITABLE_PLACE,
        ) from error


def _written(staging: Path) -> Iterator[Path]:
    return (path for path in paths_below(staging) if path != staging / WORK)


def empty_directory(directory: Path) -> None:
    """Remove everything in directory; links are removed, never what they lead to."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
