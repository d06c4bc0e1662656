"""`kawan-usaha prefect up` and `down` for real: a server, workers, every deployment, one run."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.installation import listed_deployments
from flows.operations import HOST, Operations, down
from flows.overview import overview
from flows.pools import POOLS
from tasks.core.process.ports import free_port
from tasks.core.serving.ports import can_bind

pytestmark = pytest.mark.slow

COMMAND = str(Path(sys.executable).with_name("kawan-usaha"))
HANG_S = 900


@dataclass(frozen=True)
class Prefect:
    """The command line with a home and a directory for temporary files of its own."""

    root: Path

    @property
    def at(self) -> Operations:
        return Operations(self.root / "home", tuple(POOLS))

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        (self.root / "tmp").mkdir(exist_ok=True)
        own = {"KAWAN_USAHA_HOME": str(self.at.home), "TMPDIR": str(self.root / "tmp")}
        others = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        return subprocess.run(
            [COMMAND, "prefect", *words, "--json"],
            env={**others, **own},
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )

    def up(self, *words: str) -> str:
        ran = self("up", *words)
        assert ran.returncode == 0, ran.stderr + ran.stdout
        return str(json.loads(ran.stdout)["api"])


@pytest.fixture
def prefect_of_a_home(tmp_path: Path) -> Iterator[Prefect]:
    made = Prefect(tmp_path)
    yield made
    down(made.at, say=lambda _: None)


def active_schedules(client: SyncPrefectClient) -> list[str]:
    found = client.read_deployments(limit=200)
    return [each.name for each in found if any(s.active for s in each.schedules)]


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
        assert prefect.up() == api
        assert active_schedules(client) == ["serving-watch"]
        assert overview(api).schedules == ("serving-watch (*/10 * * * *)",)
        assert len(client.read_automations()) == 2

    refused = prefect("up", "--port", str(free_port()))
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"] == "PortTaken"

    ended = json.loads(prefect("down").stdout)["ended"]
    assert set(ended) >= {"server", "kawan-cpu", "kawan-gpu"}
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
