"""`kawan-usaha prefect up` and `down` for real: a server, workers, every deployment, one run."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.installation import listed_deployments
from flows.operations import HOST
from flows.overview import overview
from flows.pools import POOLS
from tasks.core.process.ports import free_port
from tasks.core.serving.ports import can_bind
from tests.prefect_command import HANG_S, Prefect, prefect_home

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
        assert len(client.read_automations()) == 2

        run = run_deployment("store-prune/store-prune", timeout=HANG_S)
        assert run.state is not None
        assert run.state.is_completed(), run.state

        watch = found["serving-watch"]
        client.update_deployment_schedule(watch.id, watch.schedules[0].id, active=True)
        before = triggers(client)
        assert prefect.up() == api
        assert triggers(client) == before  # else the server would forget whom it waits for
        assert active_schedules(client) == ["serving-watch"]
        assert overview(api).schedules == ("serving-watch (*/10 * * * *)",)
        assert len(client.read_automations()) == 2

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
