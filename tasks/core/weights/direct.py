"""Large files read and written past the page cache (O_DIRECT), where possible and worthwhile.

A model is larger than the cache: its pages evict each other, and the kernel's search for free pages
costs more processor time than everything else in a merge. A file that is mostly in the cache is
read from there, and a file system without O_DIRECT (such as tmpfs) is used through the cache; the
bytes are the same. Source: open(2), section O_DIRECT.

The invariant: callers use any offset and length; only this module knows about blocks.
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
"""The alignment of offsets, lengths and addresses: no disk in use has larger sectors.

Not less than a page (64 KiB on some ARM and POWER kernels): where part of a page is cached, the
kernel writes it back and drops it before each direct write.
"""

_HUGE_PAGE_BYTES = 2 << 20
_MOSTLY_CACHED = 0.5


class InputFile:
    """A file to read pieces from."""

    def __init__(self, path: Path) -> None:
        self._fd, self._block = os.open(path, os.O_RDONLY | os.O_CLOEXEC), 1
        try:
            cached = cached_share(self._fd) >= _MOSTLY_CACHED
            around = None if cached else _open_around(path, os.O_RDONLY, _read_a_block)
        except BaseException:
            self.close()
            raise
        if around is not None:
            self.close()
            self._fd, self._block = around, BLOCK_BYTES

    def room_for(self, nbytes: int) -> int:
        """Return how large a buffer must be to read nbytes at any offset."""
        return nbytes + 2 * (self._block - 1)

    def read(self, offset: int, nbytes: int, buffer: torch.Tensor) -> tuple[int, int]:
        """Read into buffer, an `aligned_buffer`; return where in it the bytes begin.

        The second number is how many of nbytes were read: fewer at the end of the file.
        """
        lead = offset % self._block
        target, start = bytes_of(buffer), offset - lead
        stop = -(-(lead + nbytes) // self._block) * self._block
        done = 0
        while done < lead + nbytes:
            count = os.preadv(self._fd, [target[done:stop]], start + done)
            done += count
            if count == 0 or done % self._block:  # a partial block is the end of the file
                break
        return lead, max(0, min(done - lead, nbytes))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OutputFile:
    """A new file of a known size to write pieces to, preallocated."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Preallocate the file. Raises OSError: ENOSPC where the disk has no room for all of it.

        Some file systems, such as NFS before version 4.2, cannot preallocate: there a full disk is
        noticed only in `write`.
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

        Whole blocks bypass the cache. The bytes before and after them share their blocks with other
        pieces and go through the cache, which joins them.
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
    """One `aligned_buffer` per thread, reused, as large as its largest request."""

    def __init__(self) -> None:
        self._local = threading.local()

    def of(self, nbytes: int) -> torch.Tensor:
        """Return this thread's buffer, of nbytes or more."""
        buffer: torch.Tensor | None = getattr(self._local, "buffer", None)
        if buffer is None or buffer.numel() < nbytes:
            buffer = self._local.buffer = aligned_buffer(nbytes)
        return buffer


def aligned_buffer(nbytes: int) -> torch.Tensor:
    """Return nbytes of uint8 at an address that O_DIRECT accepts.

    In huge pages where the kernel has them: a disk request holds a limited number of memory
    segments (254 on a virtio disk), which is a megabyte in 4 KiB pages, and the disk's time goes
    into the number of requests.
    """
    room = -(-nbytes // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    mapped = mmap.mmap(-1, room + _HUGE_PAGE_BYTES, flags=private)
    with suppress(OSError):  # a kernel without huge pages is only slower
        mapped.madvise(mmap.MADV_HUGEPAGE)
    memory = torch.frombuffer(mapped, dtype=torch.uint8)
    start = -memory.data_ptr() % _HUGE_PAGE_BYTES
    return memory[start : start + nbytes]


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the memory of a flat, contiguous tensor."""
    array: Any = tensor.view(torch.uint8).numpy()
    return memoryview(array)


def cached_share(fd: int) -> float:
    """Return the share of a file's pages that the page cache holds; 1 where it is unknown.

    Source: mincore(2). The kernel says 1 for other users' files; some file systems cannot map.
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
    """Set a file's size, and allocate its blocks where the file system can do that at once.

    Not with posix_fallocate: where the file system cannot, the C library writes to every block.
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
    """Return the file opened with O_DIRECT, None where that is refused, on opening or on use."""
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
    """Return data itself if its address is aligned, else a copy of it in staging."""
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
