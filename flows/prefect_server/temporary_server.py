"""A temporary Prefect server for one command, where PREFECT_API_URL names none.

Prefect would start one itself, in the command's own process group: Ctrl-C in a terminal would then
end the server first, and the run would wait for minutes to report to it; a SIGKILL would leave it
behind. This one has a session of its own, ends after everything else, and is ended by a guard if
the command is killed.
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

import prefect
from prefect.client.orchestration import get_client
from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_API_URL, get_current_settings

from flows.prefect_server.health import server_answers
from tasks.core.errors import ServingFailed
from tasks.core.home import home
from tasks.core.process.environment import child_environment
from tasks.core.process.guard import Guard
from tasks.core.process.log import new_log
from tasks.core.process.ports import free_port
from tasks.core.process.tree import Mark, end_processes
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


def start_temporary_server() -> Callable[[], None]:
    """Start a temporary server unless one is configured; return a function that waits for it.

    Starting takes seconds, which the caller can use to import the flow. The server ends with this
    process. The returned function raises ServingFailed if the server does not start. Raises
    PrefectUnavailable at once if a configured server does not answer.
    """
    if PREFECT_API_URL.value():
        _require_configured()
        return lambda: None
    stack = ExitStack()
    # Registered before Prefect's own exit functions, one of which sends the run's log: they run in
    # reverse order.
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
    """Ask the configured server once, by Prefect's own client and with all of its settings."""
    client = get_client(httpx_settings={"timeout": _ANSWER_S}, sync_client=True)
    problem = client.api_healthcheck()
    if problem is not None:
        raise explained(problem) or problem


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not server_answers(address):
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
    """Return the file for the server's output: its tracebacks do not belong on the terminal."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")
    except OSError:  # the first stage reports a directory that is not writable
        return Path(os.devnull).open("ab")
