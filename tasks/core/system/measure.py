"""Measuring the cost of work: wall time, and the memory that it needed on top of the baseline.

A stage runs in a process that already holds Prefect, torch and remains of earlier stages, beside
child processes that serve the run. None of that counts.
"""

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_EVERY_S = 0.1
_STATUS = Path("/proc/self/status")
_OWN = ("RssAnon:", "RssShmem:")


@dataclass
class Cost:
    """The cost of a block so far; final once it has ended."""

    wall_s: float = 0.0
    peak_memory_bytes: int = 0

    def and_then(self, after: "Cost", *, waited_s: float = 0.0) -> "Cost":
        """Return the cost of both, one after the other, without the time spent waiting."""
        wall_s = max(0.0, self.wall_s + after.wall_s - waited_s)
        return Cost(wall_s, max(self.peak_memory_bytes, after.peak_memory_bytes))


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure the block: wall time, and peak memory by sampling.

    The memory is the growth of this process's private and shared memory (RssAnon, RssShmem) since
    the block began, plus the whole resident memory of child processes started since. Mapped file
    pages are the system's cache and do not count. What other threads of the process allocate
    meanwhile does; pages that children share count for each; peaks shorter than SAMPLE_EVERY_S can
    be missed.
    """
    return_freed_memory()  # otherwise the block could reuse freed memory and seem to need none
    held, running = _own_bytes(), {child.pid for child in _children()}
    cost, done = Cost(), threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_EVERY_S):
            needed = max(0, _own_bytes() - held) + _resident_bytes(except_for=running)
            cost.peak_memory_bytes = max(cost.peak_memory_bytes, needed)

    sampler = threading.Thread(target=sample, name="peak-memory", daemon=True)
    started = time.monotonic()
    try:
        sampler.start()
        yield cost
    finally:
        cost.wall_s = time.monotonic() - started
        done.set()
        if sampler.is_alive():
            sampler.join()


def return_freed_memory() -> None:
    """Return freed memory to the system: glibc keeps it, 0.4 GB after a model of 135M."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none, and needs none
    if trim is not None:
        trim(0)


def _own_bytes() -> int:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:  # not Linux
        return int(psutil.Process().memory_info().rss)
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_OWN))


def _children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _resident_bytes(*, except_for: set[int]) -> int:
    total = 0
    for child in _children():
        try:
            total += 0 if child.pid in except_for else child.memory_info().rss
        except psutil.Error:  # ended between the listing and the look
            continue
    return total
