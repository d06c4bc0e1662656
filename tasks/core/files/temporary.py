"""Files and directories under temporary names, and what killed processes have left of theirs.

Whoever writes one holds it by a lock, which the kernel frees when the writer dies. The invariant:
what a killed writer of this machine has left in a directory goes with the next one that is made
there, and never one that is still in use. On a directory that several machines share, locks may be
each machine's own: what another one has left goes after a day.
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

TEMPORARY = ".tmp-"  # begins the name of a file that a killed process may leave behind
SCRATCH = "kawan-usaha-held-"  # the same of a directory, where the system keeps what is temporary
_HELD = f"{TEMPORARY}held-"
_OTHERS_AFTER_S = 24 * 3600.0


@contextmanager
def new_file(directory: Path) -> Iterator[tuple[int, Path]]:
    """Yield a new file in directory, open for writing, to be renamed during the block.

    After an error it is gone.
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
    """Yield a new directory for what is needed only during the block, and remove it.

    It lies where the system keeps what is temporary (TMPDIR), or in the directory `beside`, in
    which nobody takes its name for one that counts. purpose is a part of its name, for people.
    """
    parent, prefix = beside or Path(tempfile.gettempdir()), _HELD if beside else SCRATCH
    remove_abandoned(parent, prefix)
    while True:
        path = Path(tempfile.mkdtemp(dir=parent, prefix=f"{prefix}{_host()}{purpose}-"))
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # taken for abandoned before it was held
            continue
        if _is_held(fd, path):
            break
        os.close(fd)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # a child that is just ending may write there
        os.close(fd)


def remove_abandoned(directory: Path, prefix: str = _HELD) -> None:
    """Remove what killed processes have left in a directory of what `new_file` makes."""
    mine = prefix + _host()
    for path in directory.glob(f"{prefix}*"):
        with suppress(OSError):  # it is held, was named meanwhile, or is not ours to remove
            if path.name.startswith(mine) or _age_s(path) > _OTHERS_AFTER_S:
                _remove(path)


def _host() -> str:
    return f"{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]}-"


def _is_held(fd: int, path: Path) -> bool:
    """Return whether it is this process's; else it was taken for abandoned before it was held."""
    with suppress(OSError):  # a file system without locks: there nobody removes it either
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
