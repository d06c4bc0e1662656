"""Work divided among threads that stop together: after the first error, and when told to.

A pool of `concurrent.futures` waits for its threads whatever happens, also at the end of the
program, so one that hangs in a read keeps Ctrl-C waiting. Here an interrupt waits GRACE_S at most.
The invariant: an error is raised only once no thread works any more; an interrupt may leave some
behind, which end with the process.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

GRACE_S = 3.0
_POLL_S = 0.01


def run_all(
    calls: Sequence[Callable[[], T]], *, threads: int, name: str, stop: Callable[[], None]
) -> list[T]:
    """Return the results of all calls in their order, made by so many threads at once.

    After the first error the calls that have not begun are left out, `stop` is called, which must
    make the others end soon, and the error is raised. The same happens when an interrupt such as
    KeyboardInterrupt reaches the waiting thread. Each thread has the caller's context variables.
    """
    shared = _Shared(list(enumerate(calls)), stop)
    pool = [
        threading.Thread(
            target=contextvars.copy_context().run,
            args=(shared.work,),
            name=f"{name}-{number}",
            daemon=True,
        )
        for number in range(min(threads, len(calls)))
    ]
    try:
        for thread in pool:
            thread.start()
        # Not Thread.join: interrupted, it takes a thread that still runs for ended (CPython 3.11).
        for _ in pool:
            shared.ended.acquire()
    except BaseException:
        shared.end()
        deadline = time.monotonic() + GRACE_S
        while any(thread.is_alive() for thread in pool) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        raise
    for thread in pool:
        thread.join()
    if shared.error is not None:
        raise shared.error
    return [shared.results[number] for number in range(len(calls))]


@dataclass
class _Shared(Generic[T]):
    """What the threads of one run have in common."""

    calls: list[tuple[int, Callable[[], T]]]
    stop: Callable[[], None]
    results: dict[int, T] = field(default_factory=dict)
    error: BaseException | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def work(self) -> None:
        """Make calls until none is left."""
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
        """Let no further call begin. Only the first error counts: others may follow from it."""
        with self.lock:
            self.calls.clear()
            if self.error is None:
                self.error = error
        self.stop()

    def _next(self) -> tuple[int, Callable[[], T]] | None:
        with self.lock:
            return self.calls.pop(0) if self.calls else None
