"""Locks between processes, on flock: the kernel frees them when the holder dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import LockBusy

_POLL_S = 0.1


@contextmanager
def locked(path: Path, *, shared: bool = False, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` during the block.

    Many may hold it `shared`, or one exclusively. Raises LockBusy when it is still held by another
    after wait_s seconds. Threads of one process exclude each other too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(fd, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait_s)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, path: Path, mode: int, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, mode | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise LockBusy(
                    "Another process is working on the same thing.",
                    where=path,
                    expected=f"the lock within {wait_s:.0f} s",
                    next_step="Wait until it is done; `kawan-usaha status` and the Prefect UI show "
                    "what runs. The lock of a process that died is free.",
                ) from error
            time.sleep(_POLL_S)
        else:
            return
