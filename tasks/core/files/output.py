"""The output of a command, at a path that the user names: checked, staged, renamed when complete.

The invariant: nothing that exists is overwritten, and the path appears only once its content is
complete. What an interrupted attempt has written stays in `<path>.partial`, where the same work
resumes.
"""

import errno
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import UsageError
from tasks.core.files.durable import (
    fsync_directory,
    fsync_tree,
    make_directory,
    take_back,
    write_atomically,
)
from tasks.core.files.listing import paths_below
from tasks.core.keys import digest

WORK = ".work"  # in a staging directory: the digest of the work that resumes there
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


@contextmanager
def staged_directory(out: Path, work: object, *, resumes: bool = True) -> Iterator[Path]:
    """Yield a directory to write into; it becomes `out` when the block ends without an exception.

    work is what the result depends on: inputs (`state_of`), settings, the code that writes. The
    staging directory `<out>.partial` records its digest, and only the same work resumes there; what
    other work left is removed first. After an exception or a kill the staging directory stays for
    the next attempt, unless nothing was written yet or resumes is False (work that starts from
    scratch each time). Raises UsageError when `out` exists and is not empty, or cannot be made.
    """
    out = out.resolve()
    require_new(out)
    staging = _staging_of(out)
    _open_staging(staging, digest(work))
    try:
        yield staging
    except BaseException as stop:
        if resumes and any(path.is_file() for path in _written(staging)):
            stop.add_note(f"What was written so far is kept in {staging}.")
        else:
            shutil.rmtree(staging)
        raise
    fsync_tree(staging)
    (staging / WORK).unlink(missing_ok=True)
    if out.exists():
        out.rmdir()
    staging.rename(out)
    fsync_directory(out.parent)


def require_new(out: Path) -> None:
    """Raise UsageError unless a new directory can be made at out. Makes nothing."""
    staging = _staging_of(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            "The output directory exists already.",
            where=out,
            next_step="Name a new directory, or remove this one first.",
        )
    if staging.is_symlink() or (staging.exists() and not staging.is_dir()):
        raise UsageError(
            "The staging directory cannot be created: its name is taken.",
            where=staging,
            expected="a directory, or nothing",
            next_step="Move it away, or name another output directory.",
        )
    parent = next(each for each in out.absolute().parents if each.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(
            "The output directory cannot be created.",
            where=parent,
            found="a directory where you may not write" if parent.is_dir() else "a file",
            next_step=_WRITABLE_PLACE,
        )


def require_file_place(path: Path) -> None:
    """Raise UsageError unless a file can be written at path. Writes nothing."""
    parent = path.absolute().parent
    found = None
    if path.is_dir():
        found = "a directory"
    elif path.exists() and not path.is_file():
        found = "a device or a pipe, which a file with its name would replace"
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


def require_new_file(path: Path) -> None:
    """Raise UsageError unless a file can be written at path, and nothing has that name."""
    require_file_place(path)
    if path.exists() or path.is_symlink():
        raise UsageError(
            "This file exists already.",
            where=path,
            next_step="Name a new file, or remove this one first.",
        )


def _staging_of(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def _open_staging(staging: Path, work: str) -> None:
    """Make the staging directory of this work, empty unless the same work left it."""
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
            "The output directory cannot be created.",
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
