"""Work divided among threads that stop together: after the first error, and on interrupt.

A pool of `concurrent.futures` always waits for its threads, even at the end of the program, so one
that hangs in a read keeps Ctrl-C waiting. Here an interrupt waits GRACE_S at most. The invariant:
an error is raised only once no thread is working any more; an interrupt may leave threads behind,
which end with the process. Nested divisions of work end with the one around them.
"""

import contextvars
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tasks.core.system.cores import usable_cores

T = TypeVar("T")

GRACE_S = 3.0
_POLL_S = 0.01
_ENOUGH = 1 << 16
"""More than any pool has threads."""


class Interrupted(KeyboardInterrupt):
    """The work that this thread is part of must end. Libraries treat it as Ctrl-C."""


_PART_OF: ContextVar["_Shared[Any] | None"] = ContextVar("part_of", default=None)


def run_all(
    calls: Sequence[Callable[[], T]], *, threads: int, name: str, stop: Callable[[], None]
) -> list[T]:
    """Return the results of all calls in order, made by `threads` threads at a time.

    After the first error the remaining calls are skipped, `stop` is called, which must make running
    calls end soon, and the error is raised. The same happens when an interrupt such as
    KeyboardInterrupt reaches the waiting thread; if that is itself a thread of run_all, it is
    Interrupted when the work around it must end. Threads get the caller's context variables.
    """
    around = _PART_OF.get()
    shared = _Shared(list(enumerate(calls)), stop)
    pool = [
        threading.Thread(
            target=contextvars.copy_context().run,
            args=(_work, shared),
            name=f"{name}-{number}",
            daemon=True,
        )
        for number in range(min(threads, len(calls)))
    ]
    try:
        with _inside(around, shared):
            for thread in pool:
                thread.start()
            # Not Thread.join: when interrupted, it considers a running thread ended
            # (CPython 3.11).
            for _ in pool:
                shared.ended.acquire()
            if shared.interrupted.is_set():
                raise Interrupted
    except BaseException as interrupt:
        shared.end()
        after_an_error = around is not None and around.error is not None
        grace_s = math.inf if isinstance(interrupt, Interrupted) and after_an_error else GRACE_S
        deadline = time.monotonic() + grace_s
        while any(thread.is_alive() for thread in pool) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        raise
    for thread in pool:
        thread.join()
    if shared.error is not None:
        raise shared.error
    return [shared.results[number] for number in range(len(calls))]


def on_every_core(calls: Sequence[Callable[[], T]], *, name: str) -> list[T]:
    """Return the results of all calls in order, made by one thread per core.

    For calls that end soon by themselves, such as hashing a file, or that use `pause`.
    """
    return run_all(calls, threads=usable_cores(), name=name, stop=lambda: None)


def pause(seconds: float) -> None:
    """Sleep. Raises Interrupted as soon as the work around this call must end."""
    around = _PART_OF.get()
    if around is None:
        time.sleep(seconds)
    elif around.ending.wait(seconds):
        raise Interrupted


def _work(shared: "_Shared[Any]") -> None:
    _PART_OF.set(shared)
    shared.work()


@contextmanager
def _inside(around: "_Shared[Any] | None", shared: "_Shared[Any]") -> Iterator[None]:
    """Interrupt this work when the work around it must end."""
    if around is None:
        yield
        return
    with around.lock:
        around.inner.append(shared)
        ending = around.ending.is_set()
    if ending:
        shared.interrupt()
    try:
        yield
    finally:
        with around.lock:
            around.inner.remove(shared)


@dataclass(eq=False)
class _Shared(Generic[T]):
    """The state that the threads of one run share."""

    calls: list[tuple[int, Callable[[], T]]]
    stop: Callable[[], None]
    results: dict[int, T] = field(default_factory=dict)
    error: BaseException | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ending: threading.Event = field(default_factory=threading.Event)
    interrupted: threading.Event = field(default_factory=threading.Event)
    inner: list["_Shared[Any]"] = field(default_factory=list)

    def work(self) -> None:
        """Make calls until none is left, in one thread."""
        try:
            while (call := self._next()) is not None:
                number, function = call
                try:
                    self.results[number] = function()
                except BaseException as error:  # noqa: BLE001 - raised by the waiting thread
                    self.end(error)
        finally:
            self.ended.release()

    def end(self, error: BaseException | None = None) -> None:
        """Start no further call. Only the first error counts, since others may follow from it."""
        with self.lock:
            self.calls.clear()
            if self.error is None:
                self.error = error
            self.ending.set()
            inner = self.inner[:]
        for each in inner:
            each.interrupt()
        self.stop()

    def interrupt(self) -> None:
        """Wake the thread that waits for these calls, which then ends them."""
        self.interrupted.set()
        self.ended.release(_ENOUGH)

    def _next(self) -> tuple[int, Callable[[], T]] | None:
        with self.lock:
            return self.calls.pop(0) if self.calls else None
