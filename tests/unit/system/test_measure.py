"""The memory of a piece of work, with allocations of a known size."""

import subprocess
import sys
import time

from tasks.core.system.measure import Cost, measured

MB = 10**6
TOO_LATE_S = 60.0
HOLDS = "import sys; held = b'x' * {size}; print('held', flush=True); sys.stdin.read()"


def wait_until_seen(cost: Cost, size: int) -> None:
    """Wait for the sampler, which sees nothing that is freed before its next look."""
    until = time.monotonic() + TOO_LATE_S
    while cost.peak_memory_bytes < size and time.monotonic() < until:
        time.sleep(0.01)


def started_child(size: int) -> "subprocess.Popen[bytes]":
    """Return a child that holds size bytes and ends when its input does."""
    argv = [sys.executable, "-c", HOLDS.format(size=size)]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


def test_what_was_held_before_the_block_is_not_its_own() -> None:
    before = b"x" * (300 * MB)
    with measured() as cost:
        own = b"x" * (100 * MB)
        wait_until_seen(cost, 99 * MB)
    assert len(own) < len(before)
    assert 99 * MB <= cost.peak_memory_bytes < 150 * MB


def test_what_was_freed_within_the_block_counts() -> None:
    with measured() as cost:
        own = b"x" * (200 * MB)
        wait_until_seen(cost, 199 * MB)
        del own
    assert 199 * MB <= cost.peak_memory_bytes < 250 * MB


FILLS_AGAIN = """
import time
from tasks.core.system.measure import measured
parts = [b"x" * 100_000 for _ in range(1000)]  # below malloc's threshold: kept in its heap
del parts
with measured() as cost:
    again = [b"x" * 100_000 for _ in range(1000)]
    until = time.monotonic() + 60
    while cost.peak_memory_bytes < 99_000_000 and time.monotonic() < until:
        time.sleep(0.01)
print(cost.peak_memory_bytes)
"""


def test_memory_that_an_earlier_block_freed_is_counted_when_it_is_filled_again() -> None:
    """In a process of its own: the heap of the test run has holes of all sizes."""
    argv = [sys.executable, "-c", FILLS_AGAIN]
    ended = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert 99 * MB <= int(ended.stdout) < 150 * MB


def test_a_child_counts_in_full() -> None:
    with measured() as cost:
        child = started_child(200 * MB)
        wait_until_seen(cost, 200 * MB)
        child.communicate()
    assert 200 * MB <= cost.peak_memory_bytes < 260 * MB


def test_a_child_that_ran_before_the_block_is_not_its_own() -> None:
    server = started_child(200 * MB)
    with measured() as cost:
        own = b"x" * (100 * MB)
        wait_until_seen(cost, 99 * MB)
    server.communicate()
    assert len(own) == 100 * MB
    assert cost.peak_memory_bytes < 150 * MB
