"""The processes that compute for `crew`: a leader, forked once for each member.

The leader loads what all members need, forks them, and then only waits, to report the exit code of
a member that fails.

    python -m tasks.core.process.crew_member CONTROL MEMBER...    (open sockets)
"""

import gc
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection


def main(control_fd: int, *member_fds: int) -> None:
    """Read the function from the first socket and items from the others, until they are closed."""
    control = Connection(control_fd)
    try:
        function = control.recv()
        load = getattr(function, "load", None)
        if load is not None:
            load()
        gc.freeze()  # otherwise the collector's marks would copy every shared page
    except EOFError:  # the caller has gone already
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller raises it
        control.send(error)
        return
    members = set[int]()
    for fd in member_fds:
        pid = os.fork()
        if pid == 0:
            control.close()
            for other in member_fds:
                if other != fd:
                    os.close(other)
            _compute(function, Connection(fd))
        members.add(pid)
    for fd in member_fds:
        os.close(fd)
    while members:
        pid, status = os.wait()
        members.discard(pid)
        if code := os.waitstatus_to_exitcode(status):
            with suppress(OSError):
                control.send(code)


def _compute(function: Callable[[object], object], items: Connection) -> None:
    """Answer each item with (None, result) or (error, None). Never returns."""
    code = 1
    try:
        while True:
            item = items.recv()
            try:
                answer: tuple[Exception | None, object] = None, function(item)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller raises it
                answer = error, None
            items.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the caller needs no more results
        code = 0
    except BaseException:  # noqa: BLE001 - a result that cannot be pickled, a signal
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
