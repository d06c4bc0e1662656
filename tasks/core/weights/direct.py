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
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

BLOCK_BYTES = max(4096, mmap.PAGESIZE)
"""What offsets, lengths and addresses are multiples of: no disk in use has larger sectors.

Not less than a page (64 KiB on some ARM and POWER kernels): where a page lies in the cache for a
part of it, the kernel writes it back and drops it before each write around the cache.
"""

_HUGE_PAGE_BYTES = 2 << 20
_MOSTLY = 0.5


class InputFile:
    """A file to read pieces from."""

    def __init__(self, path: Path) -> None:
        self._fd, self._block = os.open(path, os.O_RDONLY | os.O_CLOEXEC), 1
        try:
            cached = cached_share(self._fd) >= _MOSTLY
            around = None if cached else _open_around(path, os.O_RDONLY, _read_a_block)
        except BaseException:
            self.close()
            raise
        if around is not None:
            self.close()
            self._fd, self._block = around, BLOCK_BYTES

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


class OutputFile:
    """A new file of a known size to write pieces to, its room claimed beforehand."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Raises OSError, with ENOSPC where the disk has no room for the whole file.

        Some file systems, NFS before version 4.2 among them, cannot claim room: there a full disk
        shows in `write`.
        """
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._around: int | None = None
        try:
            _claim_room(self._fd, size_bytes)
            if size_bytes >= BLOCK_BYTES:
                self._around = _open_around(path, os.O_WRONLY, _write_a_block)
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


class ThreadBuffer:
    """For each thread one `aligned_buffer`, used again and again, as large as was ever asked."""

    def __init__(self) -> None:
        self._local = threading.local()

    def of(self, nbytes: int) -> torch.Tensor:
        """Return this thread's buffer, of nbytes or more."""
        buffer: torch.Tensor | None = getattr(self._local, "buffer", None)
        if buffer is None or buffer.numel() < nbytes:
            buffer = self._local.buffer = aligned_buffer(nbytes)
        return buffer


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


def _claim_room(fd: int, size_bytes: int) -> None:
    """Give a file its size, and the blocks for it where the file system can do that at once.

    Not by posix_fallocate: where the file system cannot, the C library writes into every block.
    Source: fallocate(2) and posix_fallocate(3).
    """
    while _libc.fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size_bytes)) != 0:
        number = ctypes.get_errno()
        if number in (errno.EOPNOTSUPP, errno.ENOSYS):
            os.truncate(fd, size_bytes)
            return
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def _open_around(path: Path, flags: int, use: Callable[[int], object]) -> int | None:
    """Return the file, opened around the cache; None where it refuses that, some only in use."""
    around = -1
    try:
        around = os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC)
        use(around)
    except OSError as error:
        if around >= 0:
            os.close(around)
        if error.errno == errno.EINVAL:
            return None
        raise
    return around


def _read_a_block(fd: int) -> None:
    os.preadv(fd, [bytes_of(aligned_buffer(BLOCK_BYTES))], 0)


def _write_a_block(fd: int) -> None:
    _write_fully(fd, bytes_of(aligned_buffer(BLOCK_BYTES)), 0)


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
