"""What a home and all that runs for it take: memory, descriptors and threads by role, disk by part.

A reading is a flat dictionary, `memory/gateway` or `disk/store` to a number, so that a new role or
part is one more name. Memory is anonymous memory, which only its process can give back: what is
mapped from files is shared, and comes and goes with other processes. The peak of a flow run is the
kernel's own mark (VmHWM), kept while the run lives and told when it has ended. `begun` counts the
processes of a role that there ever were: one that is started anew again and again hides its leak.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.prefect_server.local_prefect import PREFECT_MARK
from tasks.core.process.tree import environment_of
from tasks.core.serving.state.directory import state_directories
from tasks.core.serving.supervision.processes import MARK as SERVING_MARK

Series = dict[str, float]

FLOW_RUN = "flow run"
_RUN_ID = "PREFECT__FLOW_RUN_ID"
_SUPERVISED = "SUPERVISOR_PROCESS_NAME"
_ENGINE_OF_RUN = "prefect.engine"
_ROLES = {"blue": "engine", "green": "engine", "server": "prefect server"}
_PARTS = {
    "prefect/prefect.db": "prefect database",
    "prefect/prefect.db-wal": "prefect database's log",
    "prefect/prefect.db-shm": "prefect database's log",
    "prefect/tmp": "temporary files",
    "prefect/logs": "prefect's logs",
}
"""The longest name that a path begins with says its part; else it is the first directory."""


@dataclass
class _Run:
    """The most that a flow run has taken so far."""

    peak_bytes: float = 0.0
    descriptors: float = 0.0
    threads: float = 0.0


@dataclass
class Readings:
    """Reads one home again and again; outside are directories beside it, by the part they are."""

    home: Path
    outside: Mapping[str, Path]
    _runs: dict[str, _Run] = field(default_factory=dict)
    _begun: defaultdict[str, set[psutil.Process]] = field(default_factory=lambda: defaultdict(set))

    def ended_runs(self) -> Iterator[Series]:
        """Look at the runs in progress, and yield what each has taken that has ended since."""
        live = set()
        for process in psutil.process_iter():
            environ = environment_of(process)
            run = environ.get(_RUN_ID)
            if run is None or _role(environ, self.home) != FLOW_RUN:
                continue
            live.add(run)
            self._look_at_run(run, process)
        for run in set(self._runs) - live:
            ended = self._runs.pop(run)
            if ended.peak_bytes:
                yield {
                    f"peak/{FLOW_RUN}": ended.peak_bytes,
                    f"descriptors/{FLOW_RUN}": ended.descriptors,
                    f"threads/{FLOW_RUN}": ended.threads,
                }

    def now(self) -> Series:
        """Return what is taken now. Flow runs are left out: they come and go."""
        return {**self._of_processes(), **self._of_disk()}

    def _look_at_run(self, run: str, process: psutil.Process) -> None:
        known = self._runs.setdefault(run, _Run())
        try:
            if _ENGINE_OF_RUN not in process.cmdline():
                return
            status = Path(f"/proc/{process.pid}/status").read_text()
            descriptors = _entries(Path(f"/proc/{process.pid}/fd"))
        except (OSError, psutil.Error):
            return
        known.peak_bytes = max(known.peak_bytes, _kilobytes(status, "VmHWM"))
        known.threads = max(known.threads, _number(status, "Threads"))
        known.descriptors = max(known.descriptors, descriptors)

    def _of_processes(self) -> Series:
        found: defaultdict[str, float] = defaultdict(float)
        roles: dict[int, str] = {}
        defunct: list[psutil.Process] = []
        for process in psutil.process_iter():
            environ = environment_of(process)
            role = _role(environ, self.home)
            if role is not None:
                roles[process.pid] = role
                self._begun[role].add(process)
            elif not environ:
                defunct.append(process)
        for pid, role in roles.items():
            if role == FLOW_RUN:
                continue
            for name, value in _of_process(pid).items():
                found[f"{name}/{role}"] += value
        for role, begun in self._begun.items():
            if role != FLOW_RUN:
                found[f"begun/{role}"] = len(begun)
        found["processes/zombies"] = sum(_is_zombie_of(each, roles) for each in defunct)
        return dict(found)

    def _of_disk(self) -> Series:
        found: defaultdict[str, float] = defaultdict(float)
        for root, outside in [(self.home, None), *((p, n) for n, p in self.outside.items())]:
            for path, size_bytes in _files(root):
                part = outside or _part(str(path.relative_to(root)))
                found[f"disk/{part}"] += size_bytes
                found[f"files/{part}"] += 1
        return dict(found)


def _role(environ: Mapping[str, str], home: Path) -> str | None:
    """Return what a process does for the home, None if it is not of it."""
    served = {str(each.root) for each in state_directories(home)}
    name = environ.get(_SUPERVISED)
    if environ.get(SERVING_MARK) in served:
        return _ROLES.get(name, name.partition("-")[0]) if name else "serving's supervisord"
    if environ.get(PREFECT_MARK) != str(home / "prefect"):
        return None
    if _RUN_ID in environ:
        return FLOW_RUN
    if name is None:
        return "prefect's supervisord"
    return _ROLES.get(name, "workers" if name.startswith("kawan-") else name)


def _of_process(pid: int) -> Series:
    """Return what one process holds, nothing if it has just ended."""
    root = Path(f"/proc/{pid}")
    try:
        memory = (root / "smaps_rollup").read_text()
        return {
            "memory": _kilobytes(memory, "Anonymous"),
            "pss": _kilobytes(memory, "Pss"),
            "descriptors": _entries(root / "fd"),
            "threads": _number((root / "status").read_text(), "Threads"),
            "processes": 1,
            "cpu": _processor_s(pid),
        }
    except OSError:
        return {}


def _processor_s(pid: int) -> float:
    """Return the seconds that a process has used, with those of its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _is_zombie_of(process: psutil.Process, roles: Mapping[int, str]) -> bool:
    try:
        return process.ppid() in roles and process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _part(path: str) -> str:
    known = [name for name in _PARTS if path == name or path.startswith(f"{name}/")]
    if known:
        return _PARTS[max(known, key=len)]
    first, _, rest = path.partition("/")
    if first == "serving" and "/logs/" in path:
        return "serving's logs"
    return first if rest else "files beside them"


def _files(root: Path) -> Iterator[tuple[Path, int]]:
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            try:
                yield path, path.lstat().st_size
            except FileNotFoundError:
                continue


def _kilobytes(text: str, field: str) -> float:
    return _number(text, field) * 1024


def _number(text: str, field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+)", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _entries(directory: Path) -> int:
    return sum(1 for _ in directory.iterdir())
