"""Started as `python -I -S client.py SOCKET MODULE ARGUMENTS`; imports next to nothing."""

import marshal
import os
import signal
import socket
import sys


def main() -> None:
    """Have the server fork the program, and end as it does."""
    _, path, *words = sys.argv
    environment = {bytes(key): bytes(value) for key, value in os.environb.items()}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        server.connect(path)
        told = marshal.dumps((words, os.getcwd(), environment))  # noqa: PTH109 - pathlib is slow to import
        socket.send_fds(server, [told], [0, 1, 2])
        pid = int(server.recv(64))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        status = int(server.recv(64) or signal.SIGKILL)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


main()
