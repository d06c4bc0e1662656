"""Stopping: a signal ends the work in progress, and a stop that takes too long is cut short.

Python delivers a signal as an exception in the main thread, between two of its instructions. So
work in the main thread, or waiting there for children and threads, is interrupted at once and
cleans up on the way out. Code that hangs outside of Python is not interrupted: `stop_in_time` then
ends the process, and the guards of its children (`guard`) end those.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

WITHIN_S = 8.0
"""How long a stop may take. Everything is gone two seconds later, ten seconds in all."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked this program to end. Libraries treat it as Ctrl-C, whichever signal it was."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


@contextmanager
def raised_when_stopped() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP raise Stopped in this thread, the main one, during the block.

    Ctrl-C does so even where it was ignored when the program started, as in the background of a
    script. SIGHUP stays ignored where it is, as under nohup.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        if number != signal.SIGHUP or before[number] is not signal.SIG_IGN:
            signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _raise(number: int, _frame: object) -> None:
    raise Stopped(number)


@dataclass
class StopDeadline:
    """The deadline of a stop, for the time of a block.

    With `for_good` it stays in force after the block, as it does when an interrupt ends the block.
    """

    for_good: bool = False


@contextmanager
def stop_in_time() -> Iterator[StopDeadline]:
    """End this process WITHIN_S after a signal that stops it, if the block has not ended by then.

    A second Ctrl-C ends it at once. The signal's own handler is called as usual. Does nothing
    outside the main thread or inside another such block.
    """
    watch = StopDeadline()
    hears, tells = socket.socketpair()
    for end in (hears, tells):
        end.setblocking(end is hears)
    try:
        before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    except ValueError:  # not in the main thread
        before = None
    if before != -1:
        if before is not None:
            signal.set_wakeup_fd(before)
        hears.close()
        tells.close()
        yield watch
        return
    threading.Thread(target=_watch, args=(hears,), name="stop-in-time", daemon=True).start()
    try:
        yield watch
    except BaseException as error:
        watch.for_good |= not isinstance(error, (Exception, SystemExit))
        raise
    finally:
        if watch.for_good:
            tells.detach()
        else:
            signal.set_wakeup_fd(-1)
            tells.close()


def _watch(hears: socket.socket) -> None:
    """Wait for a signal, then for the end of the block."""
    with hears:
        while number := _next(hears):
            if number in _SIGNALS:
                break
        else:
            return
        deadline = time.monotonic() + WITHIN_S
        with suppress(TimeoutError):
            # Prefect forwards SIGTERM to the previous handler, which must not restart the deadline.
            while (left_s := deadline - time.monotonic()) > 0:
                hears.settimeout(left_s)
                again = _next(hears)
                if not again:
                    return
                if again == signal.SIGINT:
                    break
    with suppress(OSError, ValueError):  # standard error is closed
        sys.stderr.write("\nThe stop took too long and was cut short. What was finished is kept.\n")
        sys.stderr.flush()
    os._exit(128 + number)


def _next(hears: socket.socket) -> int:
    """Return the number of the next signal, 0 at the end of the block."""
    return next(iter(hears.recv(1)), 0)


def stop_behind(error: BaseException) -> tuple[Stopped | None, list[str]]:
    """Return the stop that caused an exception, if any, and the notes added on its way.

    The notes, outermost first, say what was interrupted and what is kept
    (`BaseException.add_note`).
    """
    stop, notes = None, list[str]()
    cause: BaseException | None = error
    while cause is not None:
        stop = cause if isinstance(cause, Stopped) else stop
        notes += reversed(getattr(cause, "__notes__", ()))
        cause = cause.__cause__ or cause.__context__
    return stop, notes
