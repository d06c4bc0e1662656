"""A process with all its descendants, also those that were left by their parents.

A descendant is known by a mark in its environment, which is inherited, or by its session. What
clears its environment and leaves the session too is not found. The invariant: `end` returns when
no known descendant is alive.
"""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping

import psutil

MARK = "KAWAN_USAHA_CHILD"
_GRACE_S = 10.0
_POLL_S = 0.05


class ProcessTree:
    """A started process (`leader`, in a session of its own) and whatever it starts."""

    def __init__(self, leader: subprocess.Popen[bytes], mark: str) -> None:
        self.leader = leader
        self._mark = mark

    @classmethod
    def start(cls, popen: Callable[[Mapping[str, str]], subprocess.Popen[bytes]]) -> "ProcessTree":
        """Start a tree; popen gets the variables to add to the leader's environment."""
        mark = uuid.uuid4().hex
        return cls(popen({MARK: mark}), mark)

    def resident_bytes(self, visit: Callable[[int], None]) -> int:
        """Return the resident memory of the leader and its children; visit gets each one's id."""
        total = 0
        try:
            leader = psutil.Process(self.leader.pid)
            for process in [leader, *leader.children(recursive=True)]:
                visit(process.pid)
                total += process.memory_info().rss
        except psutil.NoSuchProcess:
            pass  # it ended while it was measured; the next sample, if any, is whole
        return total

    def end(self) -> None:
        """Ask every process of the tree to end, and kill what has not after some seconds."""
        self._signal_all(signal.SIGTERM)
        asked = time.monotonic()
        while self._alive():
            if time.monotonic() - asked > _GRACE_S:
                self._signal_all(signal.SIGKILL)  # again each time: one may just have been forked
            time.sleep(_POLL_S)
        self.leader.wait()

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._alive():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue  # it ended in between, which is what was wanted

    def _alive(self) -> list[psutil.Process]:
        self.leader.poll()  # reaps it, or it would count as alive for ever
        return [
            process
            for process in psutil.process_iter()
            if _environment(process).get(MARK) == self._mark or self._is_in_session(process)
        ]

    def _is_in_session(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == self.leader.pid and _runs(process)
        except (ProcessLookupError, PermissionError):
            return False


def is_running(variable: str, value: str) -> bool:
    """Return whether a process of this user runs with variable=value in its environment."""
    return any(_environment(process).get(variable) == value for process in _running())


def _running() -> Iterator[psutil.Process]:
    return (process for process in psutil.process_iter() if _runs(process))


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _environment(process: psutil.Process) -> Mapping[str, str]:
    """Return what the process was started with; nothing for another user's, or for a zombie."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
