"""Files of many gigabytes around the page cache (O_DIRECT), where that is possible and pays.

A model is larger than the cache: pages of it push out pages of it, and the kernel's search for
free ones costs more processor time than everything else of a merge. A file that mostly lies in the
cache already is read from there, and a filesystem that refuses O_DIRECT (tmpfs, say) is used with
the cache; the bytes are the same. Source: open(2), section O_DIRECT.

The invariant: whoever calls gives any offset and length; only this module knows of blocks.
"""

import ctypes
import errno
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

BLOCK_BYTES = 4096
"""What offsets, lengths and addresses must be multiples of: no disk in use has larger sectors."""

_HUGE_PAGE_BYTES = 2 << 20
_MOSTLY = 0.5


class InputFile:
    """A file to read pieces from."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._block = BLOCK_BYTES
        try:
            if cached_share(self._fd) >= _MOSTLY or not self._go_around_the_cache(path):
                self._block = 1
        except BaseException:
            self.close()
            raise

    def room_for(self, nbytes: int) -> int:
        """Return how large a buffer must be for nbytes at any offset."""
        return nbytes + 2 * (self._block - 1)

    def read(self, offset: int, nbytes: int, buffer: torch.Tensor) -> tuple[int, int]:
        """Read into buffer, which is an `aligned_buffer`; return where the bytes begin in it.

        The second number is how many of nbytes were there: fewer at the end of the file.
        """
        lead = offset % self._block
        target, start = bytes_of(buffer), offset - lead
        stop = -(-(lead + nbytes) // self._block) * self._block
        done = 0
        while done < lead + nbytes:
            count = os.preadv(self._fd, [target[done:stop]], start + done)
            done += count
            if count == 0 or done % self._block:  # a part of a block is the end of the file
                break
        return lead, max(0, min(done - lead, nbytes))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _go_around_the_cache(self, path: Path) -> bool:
        around = _open_direct(path, os.O_RDONLY)
        if around is None:
            return False
        try:
            os.preadv(around, [bytes_of(aligned_buffer(BLOCK_BYTES))], 0)
        except OSError as error:
            os.close(around)
            if error.errno == errno.EINVAL:
                return False
            raise
        os.close(self._fd)
        self._fd = around
        return True


class OutputFile:
    """A new file of a known size to write pieces to, its room claimed beforehand."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Raises OSError, with ENOSPC where the disk has no room for the whole file."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._around: int | None = None
        try:
            os.posix_fallocate(self._fd, 0, size_bytes)
            if size_bytes >= BLOCK_BYTES:
                self._around = self._usable(_open_direct(path, os.O_WRONLY))
        except BaseException:
            self.close()
            raise

    def write(self, data: memoryview, offset: int, staging: torch.Tensor) -> None:
        """Write data at offset; staging is an `aligned_buffer` of as many bytes.

        Whole blocks go around the cache. What lies before and after them shares its blocks with
        other pieces and goes through the cache, which joins it.
        """
        first = min(-offset % BLOCK_BYTES, len(data))
        last = first + (len(data) - first) // BLOCK_BYTES * BLOCK_BYTES
        if self._around is None or first == last:
            _write_fully(self._fd, data, offset)
            return
        _write_fully(self._fd, data[:first], offset)
        _write_fully(self._around, _at_block(data[first:last], staging), offset + first)
        _write_fully(self._fd, data[last:], offset + last)

    def close_synced(self) -> None:
        """Return when every byte is on the disk."""
        os.fsync(self._fd)
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        for fd in (self._fd, self._around):
            if fd is not None and fd >= 0:
                os.close(fd)
        self._fd, self._around = -1, None

    def _usable(self, around: int | None) -> int | None:
        if around is None:
            return None
        try:
            blank = bytes_of(aligned_buffer(BLOCK_BYTES).zero_())
            _write_fully(around, blank, 0)
        except OSError as error:
            os.close(around)
            if error.errno == errno.EINVAL:
                return None
            raise
        return around


def aligned_buffer(nbytes: int) -> torch.Tensor:
    """Return nbytes of uint8 that begin at an address that O_DIRECT accepts.

    They lie in huge pages where the kernel has them. A disk's request holds a limited number of
    pieces of memory (254 in a virtio disk): of 4 KiB pages that is a megabyte, and the disk spends
    its time on the number of requests.
    """
    room = -(-nbytes // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    mapped = mmap.mmap(-1, room + _HUGE_PAGE_BYTES, flags=private)
    with suppress(OSError):  # a kernel without huge pages: only slower
        mapped.madvise(mmap.MADV_HUGEPAGE)
    memory = torch.frombuffer(mapped, dtype=torch.uint8)
    start = -memory.data_ptr() % _HUGE_PAGE_BYTES
    return memory[start : start + nbytes]


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the memory of a flat, contiguous tensor."""
    array: Any = tensor.view(torch.uint8).numpy()
    return memoryview(array)


def cached_share(fd: int) -> float:
    """Return the share of a file's pages that the page cache holds; 1 where that cannot be told.

    Source: mincore(2). The kernel says 1 for files of other users, and some filesystems cannot map.
    """
    size = os.fstat(fd).st_size
    if size == 0:
        return 1.0
    pages = np.zeros(-(-size // mmap.PAGESIZE), dtype=np.uint8)
    try:
        mapped = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
    except OSError:
        return 1.0
    with mapped:
        view = np.frombuffer(mapped, dtype=np.uint8)
        address, length = view.ctypes.data, ctypes.c_size_t(size)
        failed = _libc.mincore(ctypes.c_void_p(address), length, ctypes.c_void_p(pages.ctypes.data))
        del view
    return 1.0 if failed else float((pages & 1).mean())


_libc = ctypes.CDLL(None, use_errno=True)


def _open_direct(path: Path, flags: int) -> int | None:
    try:
        return os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def _at_block(data: memoryview, staging: torch.Tensor) -> memoryview:
    """Return data itself where its address will do, else a copy of it in staging."""
    source: np.ndarray[Any, np.dtype[np.uint8]] = np.frombuffer(data, dtype=np.uint8)
    if source.ctypes.data % BLOCK_BYTES == 0:
        return data
    copy = bytes_of(staging[: len(data)])
    np.copyto(np.frombuffer(copy, dtype=np.uint8), source)
    return copy


def _write_fully(fd: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
