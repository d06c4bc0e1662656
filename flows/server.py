"""A Prefect server for the time of one command, where none is named.

Prefect would start one itself, in the command's own process group: Ctrl-C in a terminal then ends
the server first, and the run waits for minutes to tell it that it was stopped; a SIGKILL leaves the
server behind. This one lies in a session of its own, ends after everything else, and is guarded.
"""

import atexit
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO

import httpx
import prefect
from prefect.client.orchestration import get_client
from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_API_URL, get_current_settings

from tasks.core.errors import ServingFailed
from tasks.core.home import home
from tasks.core.process.environment import child_environment
from tasks.core.process.guard import Guard
from tasks.core.process.log import new_log
from tasks.core.process.ports import free_port
from tasks.core.process.tree import Mark, end_processes
from tasks.core.serving.client.access import verified
from tasks.explain import explained

_POLL_S = 0.1
_START_S = 180.0
_ANSWER_S = 30.0
_TEMPORARY = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}
"""What Prefect sets for its own temporary server (prefect/server/api/server.py)."""


def begin_server() -> Callable[[], None]:
    """Start a temporary server, unless one is configured, and return what waits until it answers.

    It takes seconds to start, in which the caller may import what the flow needs. It ends with this
    process. The wait raises ServingFailed when it does not start. Raises PrefectUnavailable at once
    when a server is configured and does not answer.
    """
    if PREFECT_API_URL.value():
        _require_configured()
        return lambda: None
    stack = ExitStack()
    # Registered before Prefect's own: exit functions run last to first, and the log of the run is
    # sent by one of them.
    atexit.register(stack.close)
    mark = Mark.fresh()
    stack.enter_context(Guard(mark))
    stack.callback(end_processes, mark.processes)
    port, log = free_port(), new_log(home() / "logs" / "commands", "prefect-server")
    process = _start(port, mark, log)
    os.environ["PREFECT_API_URL"] = address = f"http://127.0.0.1:{port}/api"
    refresh_global_settings_context()
    return partial(_wait, process, address, log)


def _require_configured() -> None:
    """Ask the configured server once, with Prefect's own client and so with all of its settings."""
    client = get_client(httpx_settings={"timeout": _ANSWER_S}, sync_client=True)
    problem = client.api_healthcheck()
    if problem is not None:
        raise explained(problem) or problem


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not answers(address):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServingFailed(
                "The temporary Prefect server did not start.",
                where=address,
                found=f"exit code {process.poll()}",
                next_step=f"{log} says why, and so does `prefect server start`; or name a running "
                "server in PREFECT_API_URL.",
            )
        time.sleep(_POLL_S)


def _start(port: int, mark: Mark, log: Path) -> subprocess.Popen[bytes]:
    where = ("--app-dir", str(Path(prefect.__file__).parent.parent))
    application = ("--factory", "prefect.server.api.server:create_app")
    listen = ("--host", "127.0.0.1", "--port", str(port), "--log-level", "error")
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    with _output(log) as output:
        return subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *where, *application, *listen, "--lifespan", "on"],
            env=mark.added_to(
                {**child_environment(os.environ, "PREFECT_*"), **_TEMPORARY, **settings}
            ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _output(log: Path) -> BinaryIO:
    """Return where the server prints: a log, since its tracebacks are of no use on a terminal."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")
    except OSError:  # where nothing can be written, the first stage says so
        return Path(os.devnull).open("ab")


def answers(address: str) -> bool:
    """Return whether a Prefect server answers at the address of its API."""
    try:
        verify = verified(address)
        return httpx.get(f"{address}/health", trust_env=False, verify=verify).is_success
    except httpx.HTTPError:
        return False
