"""Locks between processes, on flock: the kernel frees them when the holder dies.

Beside a lock there is one small file per holder, `<lock>@<token>`, which says who it is. That file
is locked as well, so that the kernel decides whether it is valid. The invariant: a holder that is
shown holds the lock at this moment; the file of a killed holder is removed by whoever finds it or
takes the lock next.
"""

import fcntl
import glob
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from tasks.core.errors import LockBusy
from tasks.core.system.threads import pause

_log = logging.getLogger(__name__)

Say = Callable[[str], object]

WAIT_S = 6 * 3600.0
"""How long work waits for another process that does the same work."""
_POLL_S = 0.1
_SAY_AFTER_S = 5.0
_SAY_EVERY_S = 60.0
_BETWEEN = "@"


class Holder(BaseModel):
    """Who holds a lock: `what` describes the work, `lock` is the name of the lock file."""

    model_config = ConfigDict(frozen=True)

    lock: str
    what: str
    pid: int
    host: str
    since: AwareDatetime
    shared: bool

    def __str__(self) -> str:
        """Return one line for people, in local time."""
        return f"{self.what} (pid {self.pid} on {self.host}, since {self.since.astimezone():%F %T})"


@contextmanager
def locked(
    path: Path,
    what: str,
    *,
    shared: bool = False,
    wait_s: float = 0.0,
    say: Say = _log.warning,
) -> Iterator[None]:
    """Hold the lock file `path` during the block, shown to others as `what`.

    Many may hold it `shared`, or one exclusively. While another holds it, `say` gets a line with
    the holder, after some seconds and then every minute. Raises LockBusy after wait_s seconds.
    Threads of one process exclude each other too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _acquire(path, shared=shared, wait_s=wait_s, say=say)
    try:
        mine = _sign(path, what, shared=shared)
        try:
            yield
        finally:
            if mine is not None:
                _withdraw(*mine)
    finally:
        os.close(lock)


def hold_for_life(path: Path, what: str, *, shared: bool = False) -> None:
    """Hold the lock file `path` until this process ends, whichever program it becomes by exec.

    For a program that does not know our locks. Its forked children hold the lock too; children
    started with exec, as by Python's subprocess, do not. Raises LockBusy when another holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _acquire(path, shared=shared, wait_s=0.0, say=_log.warning)
    os.set_inheritable(lock, True)
    mine = _sign(path, what, shared=shared)
    if mine is not None:
        os.set_inheritable(mine[1], True)


def holders(path: Path) -> list[Holder]:
    """Return who holds the lock file `path` now, in order of acquisition."""
    return [each for each in holders_in(path.parent) if each.lock == path.name]


def holders_in(directory: Path) -> list[Holder]:
    """Return who holds any lock file in this directory now, in order of acquisition."""
    if not directory.is_dir():
        return []
    files = [path for path in directory.iterdir() if _BETWEEN in path.name]
    found = [holder for path in files if (holder := _living(path)) is not None]
    return sorted(found, key=lambda holder: holder.since)


def remove_lock(path: Path) -> None:
    """Remove a lock file that is no longer used, with the files of killed holders."""
    path.unlink(missing_ok=True)
    _forget_dead(path)


def _forget_dead(path: Path) -> None:
    for file in path.parent.glob(f"{glob.escape(path.name)}{_BETWEEN}*"):
        _living(file)


def _acquire(path: Path, *, shared: bool, wait_s: float, say: Say) -> int:
    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    started, say_at = time.monotonic(), _SAY_AFTER_S
    while True:
        lock = _try(path, mode)
        if lock is not None:
            return lock
        waited = time.monotonic() - started
        if waited >= wait_s:
            raise _busy(path, wait_s)
        if waited >= say_at:
            say_at += _SAY_EVERY_S
            say(f"Waiting for {path.name}, held by {_names(path)}.")
        pause(_POLL_S)


def _try(path: Path, mode: int) -> int | None:
    """Return the lock file, open and locked; None while another holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, mode)
        if os.fstat(lock).st_nlink:  # otherwise it was removed in between, and locks nothing
            return lock
    except BlockingIOError:
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _sign(path: Path, what: str, *, shared: bool) -> tuple[Path, int] | None:
    """Record who holds the lock; return None if the disk is too full even for that."""
    file = path.with_name(f"{path.name}{_BETWEEN}{secrets.token_hex(8)}")
    holder = Holder(
        lock=path.name,
        what=what,
        pid=os.getpid(),
        host=socket.gethostname(),
        since=datetime.now(UTC),
        shared=shared,
    )
    signature = None
    _forget_dead(path)
    try:
        while signature is None:  # a reader that came between the two calls removed it
            signature = _try(file, fcntl.LOCK_EX)
        os.write(signature, holder.model_dump_json().encode())
    except OSError as error:
        _log.debug("the holder of %s is not on record: %s", path, error)
        if signature is not None:
            _withdraw(file, signature)
        return None
    return file, signature


def _withdraw(file: Path, signature: int) -> None:
    _remove(file)
    os.close(signature)


def _remove(file: Path) -> None:
    """Remove a file that only informs, so that failing to do so must not fail the work."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        _log.debug("%s cannot be removed: %s", file, error)


def _living(file: Path) -> Holder | None:
    """Return the holder that wrote this file, if it is alive; remove the file of a dead one."""
    try:
        signature = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it was just removed, or this user may not read it
        return None
    try:
        fcntl.flock(signature, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            return Holder.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):  # removed meanwhile, or not written yet
            return None
    else:
        _remove(file)
        return None
    finally:
        os.close(signature)


def _names(path: Path) -> str:
    return "; ".join(map(str, holders(path))) or "an unknown process"


def _busy(path: Path, wait_s: float) -> LockBusy:
    return LockBusy(
        "Another process is working on the same thing.",
        where=path,
        expected=f"the lock within {wait_s:.0f} s",
        found=f"held by {_names(path)}",
        next_step="Wait until it is done; `kawan-usaha status` shows what runs. The lock of a "
        "process that died is free.",
    )
