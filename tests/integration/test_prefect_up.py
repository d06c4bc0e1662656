"""`kawan-usaha prefect up` and `down` for real: a server, workers, every deployment, one run."""

import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed

from flows.installation import listed_deployments
from flows.learn_watch import reviewed_notice
from flows.prefect_server.overview import overview
from flows.prefect_server.pools import POOLS
from flows.prefect_server.processes import HOST, RETENTION_DAYS
from flows.prefect_server.start_stop import stop_prefect
from flows.upkeep import store_prune
from tasks.core.learning.pending import PendingReviews
from tasks.core.process.ports import free_port
from tasks.core.serving.launch.ports import can_bind
from tasks.notices import send_at_once
from tests.prefect_command import HANG_S, Prefect, prefect_home
from tests.recovery.machine import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def prefect_of_a_home(tmp_path: Path) -> Iterator[Prefect]:
    with prefect_home(tmp_path) as made:
        yield made


def active_schedules(client: SyncPrefectClient) -> list[str]:
    found = client.read_deployments(limit=200)
    return [each.name for each in found if any(s.active for s in each.schedules)]


def triggers(client: SyncPrefectClient) -> list[str]:
    found = client.request("POST", "/automations/filter", json={}).json()
    return [each["trigger"]["id"] for each in found]


def test_all_is_up_twice_the_same_and_nothing_is_left_of_it(
    prefect_of_a_home: Prefect,
) -> None:
    prefect, port = prefect_of_a_home, free_port()
    api = prefect.up("--port", str(port))
    assert api == f"http://{HOST}:{port}/api"
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        found = {each.name: each for each in client.read_deployments(limit=200)}
        assert set(found) == listed_deployments()
        assert active_schedules(client) == []
        assert client.read_work_pool("kawan-gpu").concurrency_limit == 1
        assert client.read_work_pool("kawan-cpu").concurrency_limit is None
        assert len(client.read_automations()) == 3

        run = run_deployment("store-prune/store-prune", timeout=HANG_S)
        assert run.state is not None
        assert run.state.is_completed(), run.state

        send_at_once(reviewed_notice(PendingReviews("demo", answers=60, new=60)))
        learn = found["learn"].id
        wait_for(lambda: recipes_of_runs(client, learn) == ["demo"], "what was reviewed is learned")

        watch = found["serving-watch"]
        client.update_deployment_schedule(watch.id, watch.schedules[0].id, active=True)
        before = triggers(client)
        assert prefect.up() == api
        assert triggers(client) == before  # else the server would forget whom it waits for
        assert active_schedules(client) == ["serving-watch"]
        wait_for(lambda: is_planned(client, watch.id), "a run of the schedule")
        assert overview(api).schedules == ("serving-watch (*/10 * * * *)",)
        assert len(client.read_automations()) == 3

    refused = prefect("up", "--port", str(free_port()))
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"] == "PortTaken"

    ended = json.loads(prefect("down").stdout)["ended"]
    assert set(ended) >= {"server", *POOLS}
    assert prefect.at.mark.processes() == []
    assert can_bind(HOST, port)
    assert not any((prefect.root / "tmp").rglob("prefect*"))
    left = {path.name for path in prefect.at.state.root.iterdir()}
    assert "prefect.db" in left
    assert not left & {"tmp", "supervisord.conf", "supervisor.sock"}
    assert not prefect.at.state.lock.exists()
    assert json.loads(prefect("down").stdout) == {"ended": []}


def test_runs_that_ended_long_ago_go_with_their_lines_and_others_stay(tmp_path: Path) -> None:
    prefect = Prefect(tmp_path, {"PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "1"})
    try:
        api = prefect.up("--port", str(free_port()))
        with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
            old, recent = (
                client.create_flow_run(store_prune, state=Completed()).id for _ in range(2)
            )
            database = prefect.at.state.root / "prefect.db"
            ended(database, recent, timedelta(days=RETENTION_DAYS - 1))
            ended(database, old, timedelta(days=RETENTION_DAYS + 1))
            wait_for(lambda: str(old) not in ids_of_runs(client), "the old run goes")
            assert str(recent) in ids_of_runs(client)
    finally:
        stop_prefect(prefect.at, say=lambda _: None)


def ended(database: Path, run: UUID, ago: timedelta) -> None:
    at = (datetime.now(UTC) - ago).strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(database, timeout=HANG_S)) as connection, connection:
        changed = connection.execute(
            "update flow_run set end_time = ? where id = ?", (at, str(run))
        )
        assert changed.rowcount == 1


def is_planned(client: SyncPrefectClient, deployment: UUID) -> bool:
    runs = client.read_flow_runs()
    return any(run.deployment_id == deployment and run.auto_scheduled for run in runs)


def recipes_of_runs(client: SyncPrefectClient, deployment: UUID) -> list[str]:
    """Return the recipe of each run of a deployment."""
    runs = client.read_flow_runs()
    return [str(run.parameters["recipe"]) for run in runs if run.deployment_id == deployment]


def ids_of_runs(client: SyncPrefectClient) -> set[str]:
    return {str(each.id) for each in client.read_flow_runs()}


def test_what_was_started_ends_when_the_server_cannot(prefect_of_a_home: Prefect) -> None:
    """Its database is a directory."""
    prefect = prefect_of_a_home
    (prefect.at.state.root / "prefect.db").mkdir(parents=True)
    ran = prefect("up", "--port", str(free_port()))
    assert ran.returncode == 1
    assert "did not start" in json.loads(ran.stdout)["what"]
    assert prefect.at.mark.processes() == []
    assert not prefect.at.state.supervisor_config.exists()


def test_a_server_of_somebody_else_is_left_alone(prefect_of_a_home: Prefect) -> None:
    with socket.create_server((HOST, 0)) as taken:
        ran = prefect_of_a_home("up", "--port", str(taken.getsockname()[1]))
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["error"] == "PortTaken"
