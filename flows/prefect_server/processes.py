"""The processes of a local Prefect: the server, its recovery, a worker for each pool."""

import sys
from collections.abc import Mapping
from pathlib import Path

from flows.prefect_server.local_prefect import API_VARIABLE, LocalPrefect
from flows.prefect_server.pools import HEARTBEAT_S, MESSAGE_VARIABLE, WEBHOOK_VARIABLE
from flows.prefect_server.shared_servers import shared_settings
from tasks.core.home import HOME_VARIABLE, PROJECT
from tasks.core.process.environment import EVERYTHING, child_environment, path_with_programs_of
from tasks.core.serving.supervision.process_spec import ProcessSpec

SERVER = "server"
RECOVERY = "recovery"
HOST = "127.0.0.1"
RETENTION_DAYS = 30
"""How long the database keeps a finished flow run, with its logs, states and artifacts."""

_NOT_INHERITED = (
    "SUPERVISOR_*",
    "PREFECT__*",
    "PREFECT_PROFILE*",
    "PREFECT_API_KEY*",
    f"{MESSAGE_VARIABLE}*",
    f"{WEBHOOK_VARIABLE}*",
)
_RETENTION = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RETENTION_DAYS * 24 * 3600),
}
"""By default Prefect keeps flow runs for ever, and events for a week."""
_NO_AUTHORITY = {"PREFECT_API_SSL_CERT_FILE": str(Path(__file__).with_name("nobody.pem"))}
"""Our server speaks plain HTTP, but Prefect's clients load the certificates all the same, and each
flow run made a worker grow by half a megabyte. This file has one, whose key was thrown away."""


def process_environment(
    at: LocalPrefect, address: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of the processes: the caller's, since a run needs its tokens.

    Left out is whatever names another server or profile, and the addresses of notices. None of it
    is written to a file.
    """
    own = child_environment(environ, EVERYTHING, but=_NOT_INHERITED)
    return at.mark.added_to(
        {
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),  # of whatever our workers run
            **_RETENTION,
            **_NO_AUTHORITY,
            **own,
            **shared_settings(own),
            API_VARIABLE: address,
            "PREFECT_HOME": str(at.state.root),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
            HOME_VARIABLE: str(at.home),
            "PATH": path_with_programs_of(Path(sys.executable), own),
            "TMPDIR": str(at.temporary),
        }
    )


def process_specs(at: LocalPrefect, address: str) -> list[ProcessSpec]:
    """Return the server, its recovery and a worker for each pool; the server ends last."""
    port = address.removesuffix("/api").rsplit(":", 1)[1]
    prefect = (sys.executable, "-m", "prefect")
    server = (*prefect, "server", "start", "--host", HOST, "--port", port)
    recovery = (sys.executable, "-m", "flows.prefect_server.recovery")
    specs = [
        ProcessSpec(SERVER, server, {}, PROJECT, priority=1),
        ProcessSpec(RECOVERY, recovery, {}, PROJECT, priority=2),
    ]
    for pool in at.pools:
        worker = (*prefect, "worker", "start", "--pool", pool, "--name", pool)
        specs.append(ProcessSpec(pool, worker, {}, PROJECT, priority=2))
    return specs
