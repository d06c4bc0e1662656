"""Files and directories under temporary names, and cleaning up those of killed processes.

The writer of one holds a lock on it, which the kernel frees when the writer dies. The invariant:
what a killed writer of this machine left in a directory is removed when the next one is made there,
and one that is in use never is. On a directory that several machines share, locks may not be
shared: what another machine left is removed after a day.
"""

import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = ".tmp-"  # prefix of files that a killed process may leave behind
SCRATCH = "kawan-usaha-held-"  # prefix of directories in the system's temporary directory
_HELD = f"{TEMPORARY}held-"
_OTHERS_AFTER_S = 24 * 3600.0


@contextmanager
def new_file(directory: Path) -> Iterator[tuple[int, Path]]:
    """Yield a new file in directory, open for writing, to be renamed during the block.

    After an error it is removed.
    """
    remove_abandoned(directory)
    while True:
        fd, name = tempfile.mkstemp(dir=directory, prefix=_HELD + _host())
        if _is_held(fd, Path(name)):
            break
        os.close(fd)
    try:
        yield fd, Path(name)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


@contextmanager
def scratch_directory(purpose: str, *, beside: Path | None = None) -> Iterator[Path]:
    """Yield a new directory that is removed after the block.

    It is in the system's temporary directory (TMPDIR), or in the directory `beside`, under a name
    that readers of that directory ignore. purpose becomes part of the name, for people.
    """
    parent, prefix = beside or Path(tempfile.gettempdir()), _HELD if beside else SCRATCH
    remove_abandoned(parent, prefix)
    while True:
        path = Path(tempfile.mkdtemp(dir=parent, prefix=f"{prefix}{_host()}{purpose}-"))
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # removed as abandoned before it was locked
            continue
        if _is_held(fd, path):
            break
        os.close(fd)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # a child that is just ending may still write there
        os.close(fd)


def remove_abandoned(directory: Path, prefix: str = _HELD) -> None:
    """Remove temporary files that killed processes left in a directory."""
    mine = prefix + _host()
    for path in directory.glob(f"{prefix}*"):
        with suppress(OSError):  # it is in use, was renamed, or is not ours to remove
            if path.name.startswith(mine) or _age_s(path) > _OTHERS_AFTER_S:
                _remove(path)


def _host() -> str:
    return f"{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]}-"


def _is_held(fd: int, path: Path) -> bool:
    """Lock it; return False if it was removed as abandoned before it was locked."""
    with suppress(OSError):  # without locks on the file system nobody removes it either
        fcntl.flock(fd, fcntl.LOCK_EX)
    return path.exists()


def _remove(path: Path) -> None:
    is_directory = path.is_dir()
    fd = os.open(path, os.O_CLOEXEC | (os.O_RDONLY if is_directory else os.O_RDWR))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_directory:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(fd)


def _age_s(path: Path) -> float:
    return time.time() - path.lstat().st_mtime
