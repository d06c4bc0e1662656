"""A Prefect server with its workers on this machine, which outlive the command that starts them.

    <home>/prefect/prefect.db     runs, schedules, logs: stays
    <home>/prefect/logs/          of the server, each worker and supervisord: stay
    <home>/prefect/tmp/           temporary files of the workers, while they run

supervisord keeps the processes running. They are known by a mark in their environment, as those of
a deployment are, and never by a file. The server listens on loopback only. The invariant: `up` ends
with a server and workers, or with what ran before; after `down` no process, socket, lock or
temporary file is left, and no data is lost.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows.pools import HEARTBEAT_S, MESSAGE_VARIABLE, WEBHOOK_VARIABLE
from flows.shared_servers import require_shared, shared_settings
from tasks.core.errors import PortTaken, ServingFailed
from tasks.core.files.durable import write_atomically
from tasks.core.files.locks import Say, locked, remove_lock
from tasks.core.files.private import private_directory
from tasks.core.files.temporary import remove_abandoned
from tasks.core.home import ENVIRONMENT_VARIABLE, PROJECT
from tasks.core.process.environment import (
    EVERYTHING,
    child_environment,
    path_with_programs_of,
)
from tasks.core.process.guard import Guard
from tasks.core.process.stopping import WITHIN_S
from tasks.core.process.tree import Mark, end_processes
from tasks.core.serving.launch.causes import log_tail
from tasks.core.serving.launch.ports import can_bind, described, holder_of
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.supervision.process_spec import ProcessSpec
from tasks.core.serving.supervision.supervisor_config import supervisor_config
from tasks.core.serving.supervision.supervisord import (
    Supervisor,
    forget_supervisor,
    start_supervisor,
)

MARK = "KAWAN_USAHA_PREFECT"
SERVER = "server"
KEEPER = "keeper"
HOST = "127.0.0.1"
DEFAULT_PORT = 4200
RETENTION_DAYS = 30
"""How long the database keeps a flow run that has ended, with its lines, states and pages."""

_API = "PREFECT_API_URL"
_FLOW_RUN = "PREFECT__FLOW_RUN_ID"
_SUPERVISED = "SUPERVISOR_ENABLED"
_RETENTION = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RETENTION_DAYS * 24 * 3600),
}
"""Prefect itself keeps every flow run for ever, and events for a week."""
_NO_AUTHORITY = {"PREFECT_API_SSL_CERT_FILE": str(Path(__file__).with_name("nobody.pem"))}
"""Our server is asked in plain, and Prefect reads the certificates of its clients all the same: a
worker grew by half a megabyte a flow run. So they are one, whose key was thrown away."""
_START_S = 600.0
"""On a slow or busy machine the first start, which makes the database, takes minutes."""
_LOCK_S = 900.0
_POLL_S = 0.25
_RUN_GRACE_S = WITHIN_S + 2.0


@dataclass(frozen=True)
class Operations:
    """The Prefect of one home: where it keeps its state, and what of it runs."""

    home: Path
    pools: Sequence[str]

    @property
    def state(self) -> StateDirectory:
        """Where data, logs and control socket lie."""
        return StateDirectory(self.home / "prefect")

    @property
    def temporary(self) -> Path:
        """The temporary files of the workers."""
        return self.state.root / "tmp"

    @property
    def mark(self) -> Mark:
        """What all processes carry."""
        return Mark(MARK, str(self.state.root))

    def address(self) -> str | None:
        """Return the address of the API that is up here, None where no supervisord runs."""
        for process in self.mark.processes():
            with suppress(psutil.Error, OSError):
                environ = process.environ()
                if _SUPERVISED not in environ:  # only what supervisord has started has it
                    return environ[_API]
        return None

    def runs(self) -> list[psutil.Process]:
        """Return the live processes of flow runs."""
        found = []
        for process in self.mark.processes():
            with suppress(psutil.Error, OSError):
                if _FLOW_RUN in process.environ():
                    found.append(process)
        return found


def up(at: Operations, port: int | None, *, install: Callable[[str], object], say: Say) -> str:
    """Return the address of the API once the server answers, `install` is done, and workers run.

    `install` gets the address while no worker runs yet. What is up already stays up, at its port.
    After an error nothing runs that did not run before. Before anything is started it raises
    PortTaken, and what `require_shared` does; later ServingFailed, with the end of its log, when a
    process does not start.
    """
    private_directory(at.state.root)
    with locked(at.state.lock, "prefect up", wait_s=_LOCK_S, say=say):
        address = at.address()
        if address is not None:
            _require_same_port(address, port)
            _bring_up(at, address, install, say)
            return address
        end_processes(at.mark.processes)  # what a supervisord that was killed has left
        address = _free_address(port)
        require_shared(os.environ)
        try:
            with Guard(at.mark):
                _start_supervisor(at, address)
                _bring_up(at, address, install, say)
        except BaseException:
            _end(at)
            raise
        return address


def down(at: Operations, *, say: Say) -> tuple[str, ...]:
    """End the workers, the runs in progress, the server; return what ran, nothing if it was down.

    A run is ended as by SIGTERM, and recorded as Crashed while the server is there to hear it. What
    was killed before, or cut off while it started, is ended too. Deployed models go on serving.
    """
    if not at.state.root.is_dir():
        return ()
    with locked(at.state.lock, "prefect down", wait_s=_LOCK_S, say=say):
        return _end(at)


def operations_environment(
    at: Operations, address: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of the processes: the caller's, because a run needs its tokens.

    Variables that lead to another server or profile, and the addresses of notices, are left out.
    None of it is written to a file.
    """
    others = (
        "SUPERVISOR_*",
        "PREFECT__*",
        "PREFECT_PROFILE*",
        "PREFECT_API_KEY*",
        f"{MESSAGE_VARIABLE}*",
        f"{WEBHOOK_VARIABLE}*",
    )
    own = child_environment(environ, EVERYTHING, but=others)
    return at.mark.added_to(
        {
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),  # of whatever our workers run
            **_RETENTION,
            **_NO_AUTHORITY,
            **own,
            **shared_settings(own),
            _API: address,
            "PREFECT_HOME": str(at.state.root),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
            ENVIRONMENT_VARIABLE: str(at.home),
            "PATH": path_with_programs_of(Path(sys.executable), own),
            "TMPDIR": str(at.temporary),
        }
    )


def processes(at: Operations, address: str) -> list[ProcessSpec]:
    """Return the server, its keeper and a worker for each pool; the server ends last."""
    port = address.removesuffix("/api").rsplit(":", 1)[1]
    prefect = (sys.executable, "-m", "prefect")
    server = (*prefect, "server", "start", "--host", HOST, "--port", port)
    keeper = (sys.executable, "-m", "flows.keeper")
    specs = [
        ProcessSpec(SERVER, server, {}, PROJECT, priority=1),
        ProcessSpec(KEEPER, keeper, {}, PROJECT, priority=2),
    ]
    for pool in at.pools:
        worker = (*prefect, "worker", "start", "--pool", pool, "--name", pool)
        specs.append(ProcessSpec(pool, worker, {}, PROJECT, priority=2))
    return specs


def _bring_up(at: Operations, address: str, install: Callable[[str], object], say: Say) -> None:
    say(f"starting the Prefect server at {address}; its log is {at.state.log_of(SERVER)}")
    _start_missing(at, [SERVER])
    _wait_for_server(at, address)
    install(address)
    _start_missing(at, [KEEPER, *at.pools])
    say(f"workers: {', '.join(at.pools)}")


def _start_missing(at: Operations, names: Sequence[str]) -> None:
    supervisor = Supervisor(at.state.socket)
    known = supervisor.processes()
    for name in names:
        if known[name].state not in ("STARTING", "RUNNING", "BACKOFF"):
            supervisor.start(name)


def _wait_for_server(at: Operations, address: str) -> None:
    from flows.server import answers

    deadline = time.monotonic() + _START_S
    while not answers(address):
        state = Supervisor(at.state.socket).processes()[SERVER].state
        if state in ("BACKOFF", "FATAL", "EXITED") or time.monotonic() > deadline:
            raise ServingFailed(
                "The Prefect server did not start.",
                where=address,
                found=log_tail(at.state, SERVER) or state,
                next_step=f"The whole log is {at.state.log_of(SERVER)}. A database is named by "
                "PREFECT_SERVER_DATABASE_CONNECTION_URL; without it, it is SQLite.",
            )
        time.sleep(_POLL_S)


def _start_supervisor(at: Operations, address: str) -> None:
    state = at.state
    for directory in (state.logs, at.temporary):
        directory.mkdir(exist_ok=True)
    specs = processes(at, address)
    config = supervisor_config(specs, directory=state.root, logs=state.logs, socket=state.socket)
    write_atomically(state.supervisor_config, config)
    start_supervisor(
        state.supervisor_config,
        directory=state.root,
        logs=state.logs,
        environment=operations_environment(at, address, os.environ),
    )


def _end(at: Operations) -> tuple[str, ...]:
    runs = at.runs()
    ran = [f"processes of runs: {len(runs)}"] if runs else []
    supervisor = Supervisor(at.state.socket)
    with suppress(ServingFailed):  # it is down, or was killed
        alive = [each.name for each in supervisor.processes().values() if each.pid is not None]
        ran = [*alive, *ran]
        for name in sorted(alive, key=lambda name: name == SERVER):
            if name == SERVER:
                end_processes(at.runs, grace_s=_RUN_GRACE_S)
            supervisor.stop(name)
    end_processes(at.mark.processes)
    state = at.state
    forget_supervisor(state.socket, state.logs)
    state.supervisor_config.unlink(missing_ok=True)
    remove_abandoned(state.root)
    shutil.rmtree(at.temporary, ignore_errors=True)
    remove_lock(state.lock)  # the last of all: whoever waits for it starts what would be removed
    return tuple(ran)


def _free_address(port: int | None) -> str:
    port = port or DEFAULT_PORT
    if not can_bind(HOST, port):
        raise PortTaken(
            f"Port {port} is in use.",
            where=f"{HOST}:{port}",
            expected="a free port for the Prefect server",
            found=described(holder_of(port)),
            next_step="Stop that process, or take another port: `kawan-usaha prefect up --port "
            "4201`, or `make prefect-up PORT=4201`.",
        )
    return f"http://{HOST}:{port}/api"


def _require_same_port(address: str, port: int | None) -> None:
    if port is not None and address != f"http://{HOST}:{port}/api":
        raise PortTaken(
            "The Prefect of this home is up at another port.",
            where=address,
            expected=str(port),
            next_step="Use it where it is, or end it first: `kawan-usaha prefect down`.",
        )
