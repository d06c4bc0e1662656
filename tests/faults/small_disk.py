"""A real file system of a few pages, seen by one thread and by what it starts; root may make it."""

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

_T = TypeVar("_T")
_libc = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS, linux/sched.h; the others are of linux/mount.h
_READ_ONLY, _REMOUNT, _RECURSIVE, _PRIVATE = 1, 32, 16384, 1 << 18
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class SmallDisk:
    """A tmpfs at path. It goes when the thread that made it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def format(self, size_bytes: int) -> None:
        """Put a new, empty file system of this size in the place of what is there."""
        _mount("tmpfs", self.path, "tmpfs", 0, f"size={size_bytes}")

    def resize(self, size_bytes: int) -> None:
        """Give it this size. It can be written again."""
        _mount("tmpfs", self.path, "tmpfs", _REMOUNT, f"size={size_bytes}")

    def make_read_only(self) -> None:
        """Let nothing be written any more."""
        _mount("tmpfs", self.path, "tmpfs", _REMOUNT | _READ_ONLY, "")


def on_a_small_disk(path: Path, work: Callable[[SmallDisk], _T]) -> _T:
    """Return what work returns, given a disk at path. Skips the test where none can be mounted."""
    results: list[_T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            if _libc.unshare(_NEW_MOUNTS):
                raise OSError(ctypes.get_errno(), "unshare")
            _mount("none", Path("/"), "none", _RECURSIVE | _PRIVATE, "")
            results.append(work(SmallDisk(path)))
        except BaseException as error:  # noqa: BLE001 - raised by the thread of the test
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed and isinstance(failed[0], OSError) and failed[0].errno == errno.EPERM:
        pytest.skip("this user may not mount a file system")
    if failed:
        raise failed[0]
    return results[0]


def _mount(source: str, target: Path, kind: str, flags: int, options: str) -> None:
    words = [text.encode() for text in (source, str(target), kind, options)]
    if _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
