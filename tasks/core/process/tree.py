"""A process with all its descendants, including orphaned ones.

A descendant is recognized by a mark in its environment, which is inherited, or by its session. A
process that clears its environment and also leaves the session is not found. The invariant: `end`
returns when no known descendant is alive.
"""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

GRACE_S = 4.0
"""How long a process may take to end by itself. A whole stop has ten seconds."""

_CHILD = "KAWAN_USAHA_CHILD"
_POLL_S = 0.05
_LOADING_S = 10.0
_LOADING_POLL_S = 0.001


@dataclass(frozen=True)
class Mark:
    """An environment variable by which a process and its descendants are recognized."""

    variable: str
    value: str

    @classmethod
    def fresh(cls) -> "Mark":
        """Return a mark that no other process has."""
        return cls(_CHILD, uuid.uuid4().hex)

    def added_to(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return env with the mark added."""
        return {**env, self.variable: self.value}

    def processes(self) -> list[psutil.Process]:
        """Return the live processes of this user that carry the mark."""
        return [
            process
            for process in psutil.process_iter()
            if environment_of(process).get(self.variable) == self.value and _runs(process)
        ]


class ProcessTree:
    """A started process (`leader`, in a session of its own) and whatever it starts."""

    def __init__(self, leader: subprocess.Popen[bytes], mark: Mark) -> None:
        """Manage a leader that was started with the mark in its environment."""
        self.leader = leader
        self._mark = mark

    def resident_bytes(self, visit: Callable[[int], None]) -> int:
        """Return the resident memory of the leader and its children; visit gets each pid."""
        total = 0
        try:
            leader = psutil.Process(self.leader.pid)
            for process in [leader, *leader.children(recursive=True)]:
                visit(process.pid)
                total += process.memory_info().rss
        except psutil.NoSuchProcess:
            pass  # it ended while it was measured; the next sample is complete
        return total

    def end(self, grace_s: float) -> None:
        """Ask every process of the tree to end, and kill those that have not after grace_s."""
        end_processes(self._alive, grace_s=grace_s)
        self.leader.wait()

    def _alive(self) -> list[psutil.Process]:
        self.leader.poll()  # reaps it; otherwise it would count as alive for ever
        marked = self._mark.processes()
        return marked + [each for each in self._in_session() if each not in marked]

    def _in_session(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.leader.pid and _runs(process):
                    yield process
            except (ProcessLookupError, PermissionError):
                continue


def end_processes(alive: Callable[[], list[psutil.Process]], *, grace_s: float = GRACE_S) -> None:
    """Ask the processes that alive returns to end, and kill those that have not after grace_s.

    Returns once alive returns none. It is called repeatedly, because a process that is about to end
    may have started another.
    """
    _signal(alive(), signal.SIGTERM)
    asked = time.monotonic()
    while left := alive():
        if time.monotonic() - asked > grace_s:
            _signal(left, signal.SIGKILL)
        time.sleep(_POLL_S)


def is_running(variable: str, value: str) -> bool:
    """Return whether a process of this user runs with variable=value in its environment."""
    return bool(Mark(variable, value).processes())


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue  # it ended in between, as wanted


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def environment_of(process: psutil.Process) -> Mapping[str, str]:
    """Return the environment that a process was started with; empty for other users' and zombies.

    A program that sets its own title (vLLM does) overwrites its arguments and, behind them, its
    first variables, which psutil takes for the end of the list. And a process that is being started
    has neither arguments nor an environment until the kernel has loaded its program: that is
    awaited.
    """
    listed = Path(f"/proc/{process.pid}/environ")
    try:
        block = listed.read_bytes()
        if not block:
            _await_loaded(process)
            block = listed.read_bytes()
    except (psutil.Error, OSError):
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in block.split(b"\0"))
    return {name: value for name, is_set, value in pairs if name and is_set}


def _await_loaded(process: psutil.Process) -> None:
    """Return once the process is not within execve, where it has memory but no arguments yet.

    Kernel threads have neither.
    """
    deadline = time.monotonic() + _LOADING_S
    while process.memory_info().vms > 0 and not process.cmdline() and time.monotonic() < deadline:
        time.sleep(_LOADING_POLL_S)
