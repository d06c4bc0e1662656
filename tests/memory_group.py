"""A control group with a memory limit, for tests in which the kernel has to kill."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.core.process.oom import counter_of


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """Make a group in the hierarchy that this process is in; skip the test where that is refused.

    A process moves in by writing 0 into `cgroup.procs`. All must have left at the end.
    """
    counter = counter_of(os.getpid())
    if counter is None or counter.parent == Path("/proc"):
        pytest.skip("no control group counts memory here")
    version_2 = counter.name == "memory.events"
    parent = counter.parent if version_2 else Path("/sys/fs/cgroup/memory")
    group = parent / f"kawan-usaha-test-{os.getpid()}"
    limit = "memory.max" if version_2 else "memory.limit_in_bytes"
    try:
        group.mkdir()
        (group / limit).write_text(str(limit_bytes))
    except OSError as error:
        if group.exists():
            group.rmdir()
        pytest.skip(f"a control group cannot be made: {error}")
    yield group
    group.rmdir()
