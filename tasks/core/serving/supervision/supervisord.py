"""supervisord: started as a daemon, and controlled through its socket.

Standard library only: supervisor's own client waits for ever if the other side hangs.
"""

import glob
import http.client
import socket
import subprocess
import sys
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from tasks.core.errors import ServingFailed

_TIMEOUT_S = 600.0
"""A process that is stopped may take minutes to finish the last answers."""

_NO_ANSWER = (OSError, http.client.HTTPException, xmlrpc.client.Error, ExpatError)
"""What is raised when supervisord is not running, or is killed while it answers."""


def forget_supervisor(socket_path: Path, logs: Path) -> None:
    """Remove what a supervisord that ended or was killed left besides logs."""
    # It binds `<socket>.<its pid>` first, and renames it then.
    begun = socket_path.parent.glob(f"{glob.escape(socket_path.name)}.*")
    for path in (socket_path, *begun, logs / "supervisord.pid"):
        path.unlink(missing_ok=True)


def start_supervisor(
    config: Path, *, directory: Path, logs: Path, environment: Mapping[str, str]
) -> None:
    """Start the supervisord of a configuration; return once it answers.

    Raises ServingFailed with its output when it does not start.
    """
    # supervisord opens its socket before it becomes a daemon.
    result = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
        env=dict(environment),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise ServingFailed(
            "supervisord did not start.",
            where=config,
            found=(result.stderr or result.stdout).strip(),
            next_step=f"Its log is in {logs}.",
        )


@dataclass(frozen=True)
class SupervisedProcess:
    """The state of a process by supervisord; `ended`: whether it has ever ended or failed to start.

    group is the name that its copies share.
    """

    name: str
    group: str
    state: str
    pid: int | None
    ended: bool


class Supervisor:
    """The supervisord behind a control socket. Every method raises ServingFailed without one."""

    def __init__(self, control_socket: Path) -> None:
        self._socket = control_socket

    def start(self, name: str) -> None:
        """Start all copies of a process; do not wait for them."""
        self._call("startProcessGroup", name, False)

    def stop(self, name: str) -> None:
        """Stop all copies of a process; return when they have ended."""
        self._call("stopProcessGroup", name)

    def restart_copies(self, name: str) -> None:
        """Restart the copies of a process one after the other, so that one is always running."""
        for copy in sorted(p.name for p in self.processes().values() if p.group == name):
            self._call("stopProcess", f"{name}:{copy}")
            self._call("startProcess", f"{name}:{copy}")

    def load(self, name: str) -> None:
        """Load a process from the current configuration, stopped.

        Other processes keep running as they are, whatever the configuration says of them.
        """
        self.unload(name)
        self._call("reloadConfig")
        self._call("addProcessGroup", name)

    def unload(self, name: str) -> None:
        """Stop and remove a process, if it is loaded."""
        if any(each.group == name for each in self.processes().values()):
            self.stop(name)
            self._call("removeProcessGroup", name)

    def processes(self) -> dict[str, SupervisedProcess]:
        """Return every process by name."""
        found: list[dict[str, Any]] = self._call("getAllProcessInfo")
        return {
            info["name"]: SupervisedProcess(
                name=info["name"],
                group=info["group"],
                state=info["statename"],
                pid=info["pid"] or None,
                ended=info["stop"] > 0 or info["statename"] in ("BACKOFF", "FATAL"),
            )
            for info in found
        }

    def _call(self, method: str, *arguments: Any) -> Any:
        transport = _UnixTransport(self._socket)
        try:
            with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport) as server:
                return getattr(server.supervisor, method)(*arguments)
        except _NO_ANSWER as error:
            raise ServingFailed(
                "supervisord does not answer.",
                where=self._socket,
                found=error,
                next_step="`kawan-usaha status` tells what still runs.",
            ) from error


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._unix = _UnixConnection(path)

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """Return the connection to the socket; host is ignored."""
        return self._unix

    def close(self) -> None:
        """Close the connection."""
        self._unix.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise
