"""Being stopped: a signal ends the work in hand, and a stop that takes too long is cut short.

Python delivers a signal as an exception in the main thread, between two of its instructions. So
whatever works in the main thread, or waits there for its children and threads, is left at once and
cleans up on the way out. What hangs outside of Python is not: `stop_in_time` ends the process all
the same, and the guards of its children (`guard`) end those.
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
"""How long a stop may take. Everything is gone two seconds later: ten in all."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked this program to end. Libraries know it as Ctrl-C, whichever signal it was."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


@contextmanager
def raised_when_stopped() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and the end of the terminal raise Stopped in this, the main thread.

    Ctrl-C also where it was ignored when the program began, as in the background of a script. The
    end of the terminal stays ignored where it is: that is what nohup is for.
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
    """A watch over the time that a stop takes.

    `for_good` keeps it beyond its block, whose end by an interrupt does the same.
    """

    for_good: bool = False


@contextmanager
def stop_in_time() -> Iterator[StopDeadline]:
    """End this process WITHIN_S after a signal that stops it, if the block has not ended by then.

    A second Ctrl-C ends it at once. Whichever handler the signal has is called as ever. Does
    nothing outside of the main thread, or inside a block like this one.
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
            # Prefect sends SIGTERM on to the handler before its own: that must not begin anew.
            while (left_s := deadline - time.monotonic()) > 0:
                hears.settimeout(left_s)
                again = _next(hears)
                if not again:
                    return
                if again == signal.SIGINT:
                    break
    with suppress(OSError, ValueError):  # nobody reads it any more
        sys.stderr.write("\nIt did not end in time, and is cut short. What was finished is kept.\n")
        sys.stderr.flush()
    os._exit(128 + number)


def _next(hears: socket.socket) -> int:
    """Return the number of the next signal, 0 at the end of the block."""
    return next(iter(hears.recv(1)), 0)


def stop_behind(error: BaseException) -> tuple[Stopped | None, list[str]]:
    """Return the stop that an exception came of, if any, and what was noted on the way.

    Notes, the outermost first, tell what the stop struck and what is kept: whoever it passes adds
    them (`BaseException.add_note`).
    """
    stop, notes = None, list[str]()
    cause: BaseException | None = error
    while cause is not None:
        stop = cause if isinstance(cause, Stopped) else stop
        notes += reversed(getattr(cause, "__notes__", ()))
        cause = cause.__cause__ or cause.__context__
    return stop, notes
