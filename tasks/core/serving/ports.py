"""Whether the ports that serving needs are free, and who has them if not."""

import socket
from collections.abc import Collection, Mapping

import psutil

from tasks.core.errors import PortTaken

OTHER_PORT = (
    "Stop that process, or choose another port: deploy.api_port, deploy.controller_port or "
    "deploy.worker_port in the recipe; `--port`, `--controller-port` or `--worker-port` of the "
    "command."
)


def require_ports(host: str, ports: Mapping[str, int], *, ours: Collection[int] = ()) -> None:
    """Raise PortTaken unless every port can be bound, or is held by one of our pids.

    ports maps the process that needs it to the port.
    """
    for process, port in ports.items():
        if can_bind(host, port):
            continue
        holder = holder_of(port)
        if holder is not None and holder in ours:
            continue
        raise PortTaken(
            f"Port {port} is in use.",
            where=f"{host}, deploy.{process}_port",
            expected=f"a free port for the {process}",
            found=described(holder),
            next_step=OTHER_PORT,
        )


def can_bind(host: str, port: int) -> bool:
    """Tell whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections that are only waiting to be forgotten do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder_of(port: int) -> int | None:
    """Return the pid that listens on port, None if the system does not tell."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # not Linux
        return None
    for connection in connections:
        listening = connection.status == psutil.CONN_LISTEN
        if listening and connection.laddr and connection.laddr.port == port:
            return connection.pid
    return None


def described(pid: int | None) -> str:
    """Return who a holder of a port is, in words."""
    if pid is None:
        return "a process that this user may not see"
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"
