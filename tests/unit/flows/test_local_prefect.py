"""Starting and ending Prefect on this machine, as far as nothing has to be started."""

import os
import socket
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.events.schemas.automations import Posture
from prefect.settings.models.server.services import ServerServicesDBVacuumSettings
from supervisor.options import ServerOptions

from flows.prefect_server.automations import MOST_ATTEMPTS, SILENT_FOR_S, recovery_automations
from flows.prefect_server.local_prefect import PREFECT_MARK, LocalPrefect
from flows.prefect_server.pools import HEARTBEAT_S
from flows.prefect_server.processes import (
    HOST,
    RECOVERY,
    RETENTION_DAYS,
    SERVER,
    process_environment,
    process_specs,
)
from flows.prefect_server.start_stop import start_prefect, stop_prefect
from tasks.core.errors import PortTaken
from tasks.core.serving.supervision.supervisor_config import supervisor_config
from tests.secrets import SESAME

API = "http://127.0.0.1:4200/api"


@pytest.fixture
def at(tmp_path: Path) -> LocalPrefect:
    return LocalPrefect(tmp_path / "home", ("kawan-cpu", "kawan-gpu"))


def never(_: str) -> None:
    pytest.fail("nothing may be installed")


def test_port_that_is_taken_is_told_and_nothing_is_left(at: LocalPrefect) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} is in use") as refused:
            start_prefect(at, port, install=never, say=lambda _: None)
    assert f"pid {os.getpid()}" in str(refused.value)
    assert at.mark.processes() == []
    assert not at.state.supervisor_config.exists()


def test_ending_what_never_was_up_ends_nothing_and_makes_nothing(at: LocalPrefect) -> None:
    assert stop_prefect(at, say=lambda _: None) == ()
    assert not at.home.exists()


def test_lock_is_given_back_once_nothing_is_left_to_remove(
    at: LocalPrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.temporary.mkdir(parents=True)
    left: list[Path] = []
    monkeypatch.setattr(
        "flows.prefect_server.start_stop.remove_lock",
        lambda _: left.extend(at.state.root.glob("t*")),
    )
    stop_prefect(at, say=lambda _: None)
    assert left == []
    assert not at.temporary.exists()


def test_server_listens_on_loopback_only_and_ends_last(at: LocalPrefect) -> None:
    server, recovery, *workers = process_specs(at, API)
    assert server.name == SERVER
    assert server.argv[-4:] == ("--host", "127.0.0.1", "--port", "4200")
    assert [worker.name for worker in workers] == ["kawan-cpu", "kawan-gpu"]
    assert all(other.priority > server.priority for other in (recovery, *workers))


def test_supervisord_reads_the_processes_back(at: LocalPrefect) -> None:
    at.state.logs.mkdir(parents=True)
    text = supervisor_config(
        process_specs(at, API), directory=at.state.root, logs=at.state.logs, socket=at.state.socket
    )
    at.state.supervisor_config.write_text(text)
    options = ServerOptions()
    options.realize(["-c", str(at.state.supervisor_config)])
    names = {group.name for group in options.process_group_configs}
    assert names == {SERVER, RECOVERY, "kawan-cpu", "kawan-gpu"}


def test_processes_have_the_token_that_a_run_needs_and_know_this_server_only(
    at: LocalPrefect,
) -> None:
    given = {
        "HF_TOKEN": SESAME,
        "PREFECT_API_URL": "http://elsewhere/api",
        "PREFECT_PROFILE": "cloud",
        "PREFECT__FLOW_RUN_ID": "another run's",
        "SUPERVISOR_ENABLED": "1",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://db",
    }
    made = process_environment(at, API, given)
    assert made["HF_TOKEN"] == SESAME
    assert made["PREFECT_API_URL"] == API
    assert made["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://db"
    assert made["PREFECT_HOME"] == made[PREFECT_MARK] == str(at.home / "prefect")
    assert made["KAWAN_USAHA_HOME"] == str(at.home)
    assert not {"PREFECT_PROFILE", "PREFECT__FLOW_RUN_ID", "SUPERVISOR_ENABLED"} & set(made)


def test_runs_that_ended_long_ago_go_from_the_database_unless_the_user_says_otherwise(
    at: LocalPrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    enabled = "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"
    for name, value in process_environment(at, API, {}).items():
        if "DB_VACUUM" in name:
            monkeypatch.setenv(name, value)
    vacuum = ServerServicesDBVacuumSettings()
    assert vacuum.enabled_vacuum_types == {"events", "flow_runs", "orphans"}
    assert vacuum.retention_period == timedelta(days=RETENTION_DAYS)
    assert process_environment(at, API, {enabled: "events"})[enabled] == "events"


def test_a_worker_holds_no_public_certificates_unless_the_user_names_some(at: LocalPrefect) -> None:
    """Each flow run had it read all of them again, and it grew by half a megabyte."""
    name = "PREFECT_API_SSL_CERT_FILE"
    context = ssl.create_default_context(cafile=process_environment(at, API, {})[name])
    assert len(context.get_ca_certs()) == 1
    assert process_environment(at, API, {name: "/own.pem"})[name] == "/own.pem"


def test_crash_is_known_by_several_missed_heartbeats(at: LocalPrefect) -> None:
    silent, _ = recovery_automations()
    assert process_environment(at, API, {})["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(HEARTBEAT_S)
    assert silent.trigger.within.total_seconds() == SILENT_FOR_S >= 3 * HEARTBEAT_S
    assert silent.trigger.posture is Posture.Proactive
    assert "prefect.flow-run.Completed" in silent.trigger.expect


def test_restarts_after_a_crash_are_bounded() -> None:
    _, restart = recovery_automations()
    assert restart.trigger.match["prefect.run-count"] == [str(n) for n in range(MOST_ATTEMPTS)]
    assert not restart.trigger.after & restart.trigger.expect
