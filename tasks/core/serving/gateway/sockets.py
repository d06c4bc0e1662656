"""The two sockets of a gateway: the public one, and the control socket of its deployment."""

import ipaddress
import os
import socket
from pathlib import Path

from tasks.core.errors import UsageError
from tasks.core.process.ports import bound_socket
from tasks.core.serving.gateway.settings import GatewaySettings

_SUPERVISORS_FD = 0
_LONGEST_PATH = 107  # sun_path, without its zero


def public_socket(settings: GatewaySettings) -> socket.socket:
    """Return the public socket: supervisord's, or one that is bound here.

    Raises PortTaken, or UsageError if supervisord passed none.
    """
    if settings.listen == "inherited":
        return _inherited()
    gateway = settings.gateway
    return bound_socket(
        gateway.host,
        gateway.port,
        what="The gateway cannot listen at its address.",
        next_step="Choose another one in deploy.gateway, or stop what uses it.",
    )


def is_public(bound: socket.socket) -> bool:
    """Return whether other machines can reach a socket."""
    if bound.family == socket.AF_UNIX:
        return False
    return not ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def control_socket(path: Path) -> socket.socket:
    """Return a listening unix socket at path that only its owner can reach.

    One that a killed gateway left is replaced. Raises UsageError if another gateway answers there,
    or if the path is too long for a socket.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise UsageError(
            "This path is too long for a socket.",
            where=path,
            expected=f"at most {_LONGEST_PATH} bytes",
            next_step="Choose a shorter path for the home directory.",
        )
    _remove_left(path)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # between bind and chmod others could connect
    try:
        control.bind(str(path))
    finally:
        os.umask(before)
    return control


def _inherited() -> socket.socket:
    try:
        given = socket.socket(fileno=os.dup(_SUPERVISORS_FD))
        if given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return given
        given.close()
    except OSError:
        pass
    raise UsageError(
        "Standard input is not a listening socket.",
        where="listen: inherited",
        next_step="Start it from supervisord as an fcgi-program, or set listen: bind.",
    )


def _remove_left(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise _taken(path, error.strerror) from error
    raise _taken(path, "another process answers there")


def _taken(path: Path, found: object) -> UsageError:
    return UsageError(
        "The control socket cannot be created.",
        where=path,
        found=found,
        next_step="Stop the other gateway, or use another path.",
    )
