"""One function for many items, computed by several processes, the results in the items' order.

For work that Python itself does, which threads cannot divide. The processes (`crew_member`) are
forked from one that was started afresh and has loaded what all of them need: they share that
memory, and nothing of the caller's threads, locks or open files is copied. The invariant: when the
results end, or the caller goes on without them, however it does, none of the processes is alive.
Each waits for its next item at a socket whose other end only the caller has, so that a caller that
is killed takes them with it.
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
_AHEAD = 2  # items a process: one that it computes, one that waits, so that it never does
_ALONE = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def computed(
    function: Callable[[Item], Result], items: Iterable[Item], *, processes: int
) -> Generator[Result, None, None]:
    """Yield function(item) of each item in order; with one process, in this one.

    The function, the items and the results must be picklable. A `load` that the function has is
    called once, before the processes divide. Items are taken, and results kept, only a few ahead of
    what is yielded. An exception of the function is raised in place of its result. Raises
    WorkerLost when a process dies, SystemRefused when the kernel killed it because memory ran out.
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
    """The caller's end of one process: which items are there, in the order of their results."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.numbers = deque[int]()

    def send(self, number: int, item: Item) -> None:
        with suppress(OSError):  # it has died: that is heard when its results are waited for
            self.connection.send(item)
        self.numbers.append(number)


class _Crew(Generic[Item, Result]):
    """Some processes that compute one function."""

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
                start_new_session=True,  # Ctrl-C is the caller's: it ends the others
            )
        finally:
            for _, end in pairs:
                end.close()
        self._watch = OomWatch()
        self._watch.add(self._leader.pid)
        self._control, *ours = (Connection(end.detach()) for end, _ in pairs)
        self._members = [_Member[Item](one) for one in ours]
        try:
            with suppress(OSError):  # told, with its cause, when the first result is waited for
                self._control.send(self._function)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self._leader.pid, signal.SIGKILL)  # they hold nothing that needs an end
        self._leader.wait()
        for connection in (self._control, *(each.connection for each in self._members)):
            connection.close()

    def free(self) -> _Member[Item] | None:
        """Return the process with the least to do, None where each has enough."""
        member = min(self._members, key=lambda each: len(each.numbers))
        return member if len(member.numbers) < _AHEAD else None

    def finished(self) -> Iterator[tuple[int, Result]]:
        """Yield what has been computed, with its item's number; wait for the first."""
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
        """Return why a process has ended: the leader tells what it knows of the others."""
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
                "The kernel killed a process of this work: out of memory.",
                expected=f"room for {self._processes} processes",
                next_step="Close other programs, or allow fewer cores: `taskset -c 0 COMMAND`.",
            )
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
        return WorkerLost(
            "A process that did a part of this work has ended before its time.",
            found=f"it ended with {how}",
            next_step="Run again. If it happens again, see what ends processes on this machine.",
        )
