"""Detecting out-of-memory kills by the kernel.

Reads the kernel's own counters: `memory.events` of a control group v2, `memory.oom_control` of v1,
and the machine's counter in /proc/vmstat for a process in neither. Otherwise an out-of-memory kill
looks like any other signal 9.
Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from pathlib import Path

_VMSTAT = Path("/proc/vmstat")


class OomWatch:
    """Counts the out-of-memory kills in the control groups of the processes that are added."""

    def __init__(self) -> None:
        self._first: dict[Path, int] = {}
        self._last: dict[Path, int] = {}

    def add(self, pid: int) -> None:
        """Watch the control group that this process is in now; call it again in case it moves."""
        counter = counter_of(pid)
        if counter is not None and (count := oom_kills(counter)) is not None:
            self._first.setdefault(counter, count)
            self._last[counter] = count

    def kills(self) -> int:
        """Return how many kills happened since each group was first seen."""
        for counter in self._last:
            count = oom_kills(counter)
            if count is not None:  # otherwise the group is gone, and the last count stands
                self._last[counter] = count
        return sum(self._last[counter] - first for counter, first in self._first.items())


def counter_of(pid: int) -> Path | None:
    """Return the file that counts the kills around a process, None when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, group = line.split(":", 2)
        version = 2 if not controllers else 1 if "memory" in controllers.split(",") else None
        if version is None:
            continue
        counter = _counter_file(version, group)
        if counter is not None:
            return counter
    return _VMSTAT if _VMSTAT.exists() else None


def oom_kills(counter: Path) -> int | None:
    """Return the number in the line `oom_kill` of a counter file, None when it is gone."""
    try:
        lines = counter.read_text().splitlines()
    except OSError:
        return None
    counts = (line.split() for line in lines)
    return next((int(words[1]) for words in counts if words[0] == "oom_kill"), None)


def _counter_file(version: int, group: str) -> Path | None:
    for root, mount_point in _mounts(version):
        # In a container the mount shows only its own part of the hierarchy.
        inside = group.removeprefix(root) if root != "/" else group
        name = "memory.events" if version == 2 else "memory.oom_control"
        counter = mount_point / inside.lstrip("/") / name
        if counter.exists():
            return counter
    return None


def _mounts(version: int) -> list[tuple[str, Path]]:
    """Return root and mount point of each hierarchy of this version that can count memory."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        fields = before.split()
        is_v1 = kind == "cgroup" and "memory" in options.split(",")
        if (kind == "cgroup2" and version == 2) or (is_v1 and version == 1):
            found.append((fields[3], Path(fields[4])))
    return found
