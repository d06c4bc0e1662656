"""TCP ports of this machine: a free one for a child, and binding one for a server."""

import errno
import random
import socket

from tasks.core.errors import PortTaken

_SERVERS = range(20_000, 30_000)
"""Below the ports that Linux gives to outgoing connections, and Kubernetes to its services."""


def free_port() -> int:
    """Return a loopback port that is free, and that no caller gets again while this process lives.

    Nor does the kernel give it to an outgoing connection, so that a server can bind it after
    minutes of loading, and again after a crash. Whoever asks for just this port can still take it.
    Raises PortTaken if all are taken.
    """
    for port in random.SystemRandom().sample(_SERVERS, len(_SERVERS)):
        if _is_reserved(port):
            return port
    raise PortTaken(
        "No port is free for a server of this machine.",
        expected=f"a free port from {_SERVERS.start} to {_SERVERS.stop - 1}",
        next_step="End what listens there: `ss -tlnp` shows it.",
    )


def _is_reserved(port: int) -> bool:
    """Reserve a port until this process ends; return False if it is in use, or reserved."""
    with socket.socket(socket.AF_UNIX) as reserved, socket.socket() as probe:
        try:
            reserved.bind(f"\0kawan-usaha-port-{port}")
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        reserved.detach()  # so it stays open
    return True


def bound_socket(host: str, port: int, *, what: str, next_step: str) -> socket.socket:
    """Return a socket bound to an address, not listening yet.

    Connections of an earlier server in TIME_WAIT do not count. Raises PortTaken with the message
    `what` and the advice `next_step`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise PortTaken(
            what, where=f"{host} port {port}", found=error.strerror, next_step=next_step
        ) from error
    return bound


def socket_url(bound: socket.socket) -> str:
    """Return the URL by which this machine reaches a server, without a path."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
