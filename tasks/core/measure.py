"""What a piece of work costs: wall time and the peak memory of the process and its children."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

SAMPLE_EVERY_S = 0.1


@dataclass
class Cost:
    """Filled in when the measured block ends."""

    wall_s: float = 0.0
    peak_memory_bytes: int = 0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure the block: seconds, and the largest resident memory seen by sampling.

    The memory is that of the whole process tree, so it includes what was resident before the
    block began; peaks shorter than the sampling interval can be missed.
    """
    cost = Cost(peak_memory_bytes=_tree_resident_bytes())
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_EVERY_S):
            cost.peak_memory_bytes = max(cost.peak_memory_bytes, _tree_resident_bytes())

    sampler = threading.Thread(target=sample, name="peak-memory", daemon=True)
    started = time.monotonic()
    sampler.start()
    try:
        yield cost
    finally:
        cost.wall_s = time.monotonic() - started
        done.set()
        sampler.join()


def _tree_resident_bytes() -> int:
    me = psutil.Process()
    total = 0
    for process in [me, *me.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.Error:  # ended between the listing and the look
            continue
    return total
