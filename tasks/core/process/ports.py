"""TCP ports of this machine: a free one for a child, and binding one for a server."""

import socket

from tasks.core.errors import PortTaken


def free_port() -> int:
    """Return a loopback port that is free now; another process may take it at any time."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
