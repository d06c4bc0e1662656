"""Start and stop the Prefect server and workers of this machine.

supervisord keeps the processes running after the command that starts them has ended. The server
listens on loopback only. The invariant: `start_prefect` ends with a server and workers, or with
what ran before; after `stop_prefect` no process, socket, lock or temporary file is left, and no
data is lost.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from flows.prefect_server.health import server_answers
from flows.prefect_server.local_prefect import LocalPrefect
from flows.prefect_server.processes import (
    HOST,
    RECOVERY,
    SERVER,
    process_environment,
    process_specs,
)
from flows.prefect_server.shared_servers import require_shared
from tasks.core.errors import PortTaken, ServingFailed
from tasks.core.files.durable import write_atomically
from tasks.core.files.locks import Say, locked, remove_lock
from tasks.core.files.private import private_directory
from tasks.core.files.temporary import remove_abandoned
from tasks.core.process.guard import Guard
from tasks.core.process.stopping import WITHIN_S
from tasks.core.process.tree import end_processes
from tasks.core.serving.launch.causes import log_tail
from tasks.core.serving.launch.ports import can_bind, described, holder_of
from tasks.core.serving.supervision.supervisor_config import supervisor_config
from tasks.core.serving.supervision.supervisord import (
    Supervisor,
    forget_supervisor,
    start_supervisor,
)

DEFAULT_PORT = 4200
_START_S = 600.0
"""The first start creates the database, which takes minutes on a slow or busy machine."""
_LOCK_S = 900.0
_POLL_S = 0.25
_RUN_GRACE_S = WITHIN_S + 2.0


def start_prefect(
    at: LocalPrefect, port: int | None, *, install: Callable[[str], object], say: Say
) -> str:
    """Return the address of the API once the server answers, `install` is done, and workers run.

    `install` gets the address before any worker runs. What is running already stays, at its port.
    After an error nothing runs that did not run before. Raises PortTaken, and what
    `require_shared` raises, before anything is started; ServingFailed, with the end of the log, if
    a process does not start.
    """
    private_directory(at.state.root)
    with locked(at.state.lock, "prefect up", wait_s=_LOCK_S, say=say):
        address = at.address()
        if address is not None:
            _require_same_port(address, port)
            _bring_up(at, address, install, say)
            return address
        end_processes(at.mark.processes)  # of a supervisord that was killed
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


def stop_prefect(at: LocalPrefect, *, say: Say) -> tuple[str, ...]:
    """End workers, runs in progress and server; return the names of what ran, none if it was down.

    A run gets SIGTERM and is recorded as Crashed while the server still runs. Processes left by a
    supervisord that was killed are ended too. Deployed models keep serving.
    """
    if not at.state.root.is_dir():
        return ()
    with locked(at.state.lock, "prefect down", wait_s=_LOCK_S, say=say):
        return _end(at)


def _bring_up(at: LocalPrefect, address: str, install: Callable[[str], object], say: Say) -> None:
    say(f"starting the Prefect server at {address}; its log is {at.state.log_of(SERVER)}")
    _start_missing(at, [SERVER])
    _wait_for_server(at, address)
    install(address)
    _start_missing(at, [RECOVERY, *at.pools])
    say(f"workers: {', '.join(at.pools)}")


def _start_missing(at: LocalPrefect, names: Sequence[str]) -> None:
    supervisor = Supervisor(at.state.socket)
    known = supervisor.processes()
    for name in names:
        if known[name].state not in ("STARTING", "RUNNING", "BACKOFF"):
            supervisor.start(name)


def _wait_for_server(at: LocalPrefect, address: str) -> None:
    deadline = time.monotonic() + _START_S
    while not server_answers(address):
        state = Supervisor(at.state.socket).processes()[SERVER].state
        if state in ("BACKOFF", "FATAL", "EXITED") or time.monotonic() > deadline:
            raise ServingFailed(
                "The Prefect server did not start.",
                where=address,
                found=log_tail(at.state, SERVER) or state,
                next_step=f"Read the whole log: {at.state.log_of(SERVER)}. The database is SQLite, "
                "unless PREFECT_SERVER_DATABASE_CONNECTION_URL names another.",
            )
        time.sleep(_POLL_S)


def _start_supervisor(at: LocalPrefect, address: str) -> None:
    state = at.state
    for directory in (state.logs, at.temporary):
        directory.mkdir(exist_ok=True)
    specs = process_specs(at, address)
    config = supervisor_config(specs, directory=state.root, logs=state.logs, socket=state.socket)
    write_atomically(state.supervisor_config, config)
    start_supervisor(
        state.supervisor_config,
        directory=state.root,
        logs=state.logs,
        environment=process_environment(at, address, os.environ),
    )


def _end(at: LocalPrefect) -> tuple[str, ...]:
    runs = at.runs()
    ran = [f"processes of runs: {len(runs)}"] if runs else []
    supervisor = Supervisor(at.state.socket)
    with suppress(ServingFailed):  # it does not run
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
    remove_lock(state.lock)  # last: whoever waits for it starts new processes
    return tuple(ran)


def _free_address(port: int | None) -> str:
    port = port or DEFAULT_PORT
    if not can_bind(HOST, port):
        raise PortTaken(
            f"Port {port} is in use.",
            where=f"{HOST}:{port}",
            expected="a free port for the Prefect server",
            found=described(holder_of(port)),
            next_step="Stop that process, or choose another port: `kawan-usaha prefect up --port "
            "4201`, or `make prefect-up PORT=4201`.",
        )
    return f"http://{HOST}:{port}/api"


def _require_same_port(address: str, port: int | None) -> None:
    if port is not None and address != f"http://{HOST}:{port}/api":
        raise PortTaken(
            "The Prefect of this home is running at another port.",
            where=address,
            expected=str(port),
            next_step="Use it at that port, or stop it first: `kawan-usaha prefect down`.",
        )
