"""How many cores this process may use, by machine, affinity and control group.

A container with two of 64 cores sees all 64; the kernel throttles it. Reads the CPU quota of
control groups v2 and v1, its own and those around it.
Source: Linux, Documentation/admin-guide/cgroup-v2.rst, "cpu.max"; scheduler/sched-bwc.rst for v1.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def usable_cores(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return how many processes can compute at the same time, at least one."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = min(_quotas(proc, cgroups), default=float(cores))
    return max(1, min(cores, math.ceil(quota)))


def _quotas(proc: Path, cgroups: Path) -> Iterator[float]:
    """Yield the limit of each control group around this process that has one, in cores."""
    for directory in _groups(proc, cgroups):
        text = _text(directory / "cpu.max") or " ".join(
            _text(directory / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        )
        quota, _, period = text.partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(period):  # not "max", not -1
            yield int(quota) / int(period)


def _groups(proc: Path, cgroups: Path) -> Iterator[Path]:
    """Yield the directory of each group, its own first; in a container the mount is its own."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = cgroups / "cpu" if controllers else cgroups  # v1, v2
        own = mount / group.lstrip("/")
        yield from (own, *(each for each in own.parents if each.is_relative_to(mount)))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
