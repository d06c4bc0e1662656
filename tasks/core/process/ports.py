"""A TCP port for a child on this machine."""

import socket


def free_port() -> int:
    """Return a loopback port that nobody listens on now; another process may take it meanwhile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
