"""One function applied to many items by several processes, with the results in order.

For work done in Python itself, which threads cannot parallelize. The processes (`crew_member`) are
forked from a freshly started one that has loaded what all of them need: they share that memory, and
none of the caller's threads, locks or open files is copied. The invariant: once the results end, or
the caller leaves them for any reason, none of the processes is alive. Each waits for its next item
on a socket whose other end only the caller holds, so that a killed caller takes them with it.
"""

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

from tasks.core.errors import KawanUsahaError, SystemRefused, WorkerLost
from tasks.core.home import PROJECT
from tasks.core.process.environment import child_environment
from tasks.core.process.oom import OomWatch

Item = TypeVar("Item")
Result = TypeVar("Result")

_MEMBER = "tasks.core.process.crew_member"
_AHEAD = 2  # items per process: one in progress and one queued, so that it never waits
_ALONE = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def computed(
    function: Callable[[Item], Result], items: Iterable[Item], *, processes: int
) -> Generator[Result, None, None]:
    """Yield function(item) for each item in order; with processes=1, computed in this process.

    The function, the items and the results must be picklable. If the function has a method `load`,
    it is called once, before the processes fork. Items are read and results buffered only a few
    ahead of what is yielded. An exception of the function is raised in place of its result. Raises
    WorkerLost when a process dies, SystemRefused when the kernel killed it for lack of memory.
    """
    if processes == 1:
        yield from map(function, items)
        return
    with _Crew[Item, Result](function, processes) as crew:
        todo, waiting = iter(items), deque[int]()  # the numbers of items, in order
        results: dict[int, Result] = {}
        number = 0
        while True:
            while len(waiting) < _AHEAD * processes and (free := crew.free()) is not None:
                try:
                    item = next(todo)
                except StopIteration:
                    break
                free.send(number, item)
                waiting.append(number)
                number += 1
            if not waiting:
                return
            while waiting[0] not in results:
                results.update(crew.finished())
            yield results.pop(waiting.popleft())


class _Member(Generic[Item]):
    """The caller's end of one process, with the numbers of the items that it has."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.numbers = deque[int]()

    def send(self, number: int, item: Item) -> None:
        with suppress(OSError):  # it has died, which shows when its results are awaited
            self.connection.send(item)
        self.numbers.append(number)


class _Crew(Generic[Item, Result]):
    """The processes that compute one function."""

    def __init__(self, function: Callable[[Item], Result], processes: int) -> None:
        self._function, self._processes = function, processes

    def __enter__(self) -> "_Crew[Item, Result]":
        pairs = [socket.socketpair() for _ in range(self._processes + 1)]
        theirs = [theirs.fileno() for _, theirs in pairs]
        try:
            self._leader = subprocess.Popen(
                [sys.executable, "-m", _MEMBER, *map(str, theirs)],
                cwd=PROJECT,
                env={**child_environment(os.environ), **_ALONE},
                stdin=subprocess.DEVNULL,
                pass_fds=theirs,
                start_new_session=True,  # Ctrl-C goes to the caller only, which ends these
            )
        finally:
            for _, end in pairs:
                end.close()
        self._watch = OomWatch()
        self._watch.add(self._leader.pid)
        self._control, *ours = (Connection(end.detach()) for end, _ in pairs)
        self._members = [_Member[Item](one) for one in ours]
        try:
            with suppress(OSError):  # reported, with its cause, when the first result is awaited
                self._control.send(self._function)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self._leader.pid, signal.SIGKILL)  # they hold nothing that needs cleaning up
        self._leader.wait()
        for connection in (self._control, *(each.connection for each in self._members)):
            connection.close()

    def free(self) -> _Member[Item] | None:
        """Return the least busy process, None if all have enough."""
        member = min(self._members, key=lambda each: len(each.numbers))
        return member if len(member.numbers) < _AHEAD else None

    def finished(self) -> Iterator[tuple[int, Result]]:
        """Yield finished results with the numbers of their items; wait for the first."""
        by_connection = {each.connection: each for each in self._members}
        for connection in wait([*by_connection, self._control]):
            if connection is self._control:
                raise self._loss()
            try:
                error, result = by_connection[connection].connection.recv()  # type: ignore[index]
            except (EOFError, OSError):
                raise self._loss() from None
            if error is not None:
                raise error
            yield by_connection[connection].numbers.popleft(), result  # type: ignore[index]

    def _loss(self) -> BaseException:
        """Return why a process has ended; the leader reports on the others."""
        try:
            told = self._control.recv()
        except (EOFError, OSError):  # it is the leader that died
            told = self._leader.wait()
        if isinstance(told, BaseException):  # the loading failed
            return told
        return self._told(told)

    def _told(self, code: int) -> KawanUsahaError:
        if self._watch.kills():
            return SystemRefused(
                "The kernel killed one of the worker processes because memory ran out.",
                expected=f"memory for {self._processes} processes",
                next_step="Close other programs, or allow fewer cores: `taskset -c 0 COMMAND`.",
            )
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
        return WorkerLost(
            "One of the worker processes ended unexpectedly.",
            found=f"it ended with {how}",
            next_step="Run again. If it happens again, find out what ends processes here.",
        )
