"""Checks that the ports for serving are free, and finds who holds them if not."""

from collections.abc import Collection

import psutil

from tasks.core.errors import PortTaken
from tasks.core.process.ports import bound_socket
from tasks.core.recipe.deploy import Deploy

_OTHER_PORT = (
    "Stop that process, or choose another port: deploy.gateway.port in the recipe, `--port` of the "
    "command."
)


def require_ports(settings: Deploy, *, ours: Collection[int] = ()) -> None:
    """Raise PortTaken unless the public ports are free or held by one of our pids."""
    require_port(settings.gateway.host, settings.gateway.port, ours=ours)
    if settings.page is not None:
        require_port("127.0.0.1", settings.page.port, field="page.port", ours=ours)


def require_port(
    host: str, port: int, *, field: str = "gateway.port", ours: Collection[int] = ()
) -> None:
    """Raise PortTaken unless the port can be bound or is held by one of our pids."""
    if can_bind(host, port) or ((holder := holder_of(port)) is not None and holder in ours):
        return
    raise PortTaken(
        f"Port {port} is in use.",
        where=f"{host}, deploy.{field}",
        expected=f"a free port for the {field.partition('.')[0]}",
        found=described(holder_of(port)),
        next_step=_OTHER_PORT,
    )


def can_bind(host: str, port: int) -> bool:
    """Return whether a server could listen there now."""
    try:
        bound_socket(host, port, what="", next_step=_OTHER_PORT).close()
    except PortTaken:
        return False
    return True


def holder_of(port: int) -> int | None:
    """Return the pid that listens on port, None if the system does not reveal it."""
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
    """Describe the holder of a port."""
    if pid is None:
        return "a process of another user"
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"
