"""Two machines as two homes of this one: the deployment of the second behind the first's gateway.

Between them stands the nginx of docs/serving, with a certificate that it has signed itself.
"""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.core.errors import ServingFailed
from tasks.core.recipe import Deploy
from tasks.core.serving.client.request import KeyRefused
from tasks.core.serving.gateway.control import GatewayControl
from tasks.core.serving.launch.deployment import deploy, start
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.observe.incidents import Incident
from tasks.core.serving.observe.status import status
from tasks.core.serving.observe.watch import DeploymentWatch
from tasks.core.serving.state.directory import StateDirectory, state_directory
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.processes import end_all, own_processes
from tests.asking import Asking
from tests.models import tiny_llama
from tests.tls import Certified, certified
from tests.unit.serving.conftest import end_servers_under
from tests.unit.serving.gateway.world import ROOT, free_port, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]
NAME = "kawan"
KEY = "rahasia-antar-mesin"
VARIABLE = "KAWAN_USAHA_TEST_GPU2_KEY"


@dataclass(frozen=True)
class Host:
    """A machine: a home with a deployment, and the models that both machines have."""

    home: Path
    models: dict[str, Path]
    settings: Deploy

    @property
    def state(self) -> StateDirectory:
        return state_directory(self.home, NAME)

    @property
    def gateway(self) -> GatewayControl:
        return GatewayControl(self.state.gateway_socket)

    def deploy(self, build: str, **changes: object) -> Deployment:
        settings = self.settings.model_copy(update=changes)
        model, template = self.models[build], "vicuna_v1.1"
        return deploy(model, settings, name=NAME, template=template, home=self.home, build=build)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("models")
    return {str(seed): tiny_llama(directory / str(seed), layers=1, seed=seed) for seed in (1, 2)}


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(VARIABLE, KEY)
        yield patched


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, models, settings) -> Iterator[Host]:
    root = tmp_path_factory.mktemp("second")
    keys = root / "keys.yaml"
    keys.write_text(f"- name: front\n  key: {KEY}\n")
    keys.chmod(0o600)
    gateway = {"port": free_port(), "keys_file": str(keys)}
    home = root / "home"
    yield Host(home, models, settings(gateway=gateway, engine="transformers"))
    end_servers_under(home)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certified(tmp_path_factory.mktemp("tls") / "gpu2")


@pytest.fixture(scope="module")
def worker(
    tmp_path_factory: pytest.TempPathFactory, second: Host, certificate
) -> Iterator[dict[str, str]]:
    """The second machine in the recipe of the first: nginx before it, on an address of its own."""
    directory, port = tmp_path_factory.mktemp("nginx"), free_port()
    shown = (ROOT / "docs/serving/nginx.conf").read_text()
    ours = {
        "listen 443 ssl": f"listen 127.0.0.2:{port} ssl",
        "/etc/kawan-usaha/certificate.pem": str(certificate.certificate),
        "/etc/kawan-usaha/key.pem": str(certificate.key),
        "127.0.0.1:8000": f"127.0.0.1:{second.settings.gateway.port}",
    }
    for theirs, own in ours.items():
        assert shown.count(theirs) == 1, theirs
        shown = shown.replace(theirs, own)
    paths = "".join(
        f"{kind}_temp_path {directory / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = directory / "nginx.conf"
    file.write_text(
        f"daemon off;\npid {directory}/pid;\nerror_log {directory}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}{shown}}}\n"
    )
    with subprocess.Popen(["nginx", "-c", str(file)]) as nginx:
        yield {
            "name": "gpu2",
            "url": f"https://127.0.0.2:{port}",
            "token_variable": VARIABLE,
            "ca_file": str(certificate.certificate),
        }
        nginx.terminate()


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory, models, settings, worker, environment
) -> Iterator[Host]:
    """The machine that clients know."""
    home = tmp_path_factory.mktemp("first") / "home"
    yield Host(home, models, settings(workers=[worker], engine="transformers", drain_s=600))
    end_servers_under(home)


@pytest.fixture
def both(first: Host, second: Host) -> Deployment:
    """Both machines serve build 1, and the first has found the second."""
    second.deploy("1")
    deployment = first.deploy("1")
    until(lambda: pieces(first, "gpu2", after=lambda: ask(deployment, 4)) > 0, within_s=120)
    return deployment


def ask(deployment: Deployment, count: int, clients: int = 4) -> Asking:
    with Asking(deployment.url, "Kawan-Usaha", clients=clients) as asking:
        asking.wait_for(count)
    return asking


def pieces(host: Host, upstream: str, *, after) -> int:
    """How many pieces of answers came from an upstream while `after` ran."""

    def now() -> int:
        return sum(slot.get(upstream, 0) for slot in host.gateway.state().pieces.values())

    before = now()
    after()
    return now() - before


def assert_only_what_was_in_progress_failed(asking: Asking, clients: int) -> None:
    """An answer that broke off is an error: an event in a stream, a 503 for a whole one."""
    assert set(asking.fates()) <= {"whole", "cut off", "come back"}, asking.failed()
    assert len(asking.failed()) <= clients, asking.failed()


def test_clients_are_answered_by_both_machines_and_see_no_difference(first, second, both):
    asking = ask(both, 32, clients=8)
    assert set(asking.fates()) == {"whole"}, asking.failed()
    assert {outcome.streamed for outcome in asking.outcomes} == {True, False}
    assert len(asking.texts()) == 1
    (slot,) = first.gateway.state().pieces.values()
    assert slot[both.slot] > 0
    assert slot["gpu2"] > 0
    assert 'key="front"' in second.gateway.metrics()
    (found,) = status(first.home)
    assert found.health == "healthy"
    assert [(w.name, w.problem) for w in found.workers] == [("gpu2", None)]
    for path in first.state.root.rglob("*"):
        secret = path.is_file() and KEY in path.read_text(errors="replace")
        assert not secret or (path == first.state.workers and path.stat().st_mode & 0o077 == 0)


def test_a_wrong_key_is_told_before_anything_is_ended(first, both, environment):
    environment.setenv(VARIABLE, "a-key-that-nobody-has")
    try:
        with (
            Asking(both.url, "Kawan-Usaha", clients=4) as asking,
            pytest.raises(KeyRefused, match="gpu2 does not accept the key"),
        ):
            first.deploy("2", switch="replace")
    finally:
        environment.setenv(VARIABLE, KEY)
    assert set(asking.fates()) <= {"whole"}, asking.failed()
    (found,) = status(first.home)
    assert (found.health, found.deployment.build) == ("healthy", "1")
    assert found.workers[0].problem is None


def test_a_model_that_the_second_machine_does_not_serve_is_refused_here(first, both):
    with pytest.raises(ServingFailed, match="gpu2 serves another model"):
        first.deploy("2", switch="replace")
    (found,) = status(first.home)
    assert (found.health, found.deployment.build) == ("healthy", "1")


def test_while_the_machines_change_models_nobody_gets_an_answer_of_the_other_one(
    first, second, both
):
    told: list[Incident] = []
    watch = DeploymentWatch(first.state, told.append)
    before = ask(both, 4).texts()
    with Asking(both.url, "Kawan-Usaha", clients=4) as asking:
        second.deploy("2")
        asking.wait_for(len(asking.outcomes) + 8)
    assert set(asking.fates()) == {"whole"}, asking.failed()
    assert asking.texts() == before
    watch.look()
    lost = [each for each in told if each.kind == "worker-lost"]
    assert "build 2" in lost[0].detail
    (found,) = status(first.home)
    assert found.health == "healthy"
    assert "another model" in found.workers[0].problem
    with Asking(both.url, "Kawan-Usaha", clients=4) as asking:
        two = first.deploy("2")
    assert set(asking.fates()) == {"whole"}, asking.failed()
    after = ask(two, 4).texts()
    assert len(after) == 1
    assert asking.texts() <= before | after
    until(lambda: pieces(first, "gpu2", after=lambda: ask(two, 4)) > 0, within_s=60)
    watch.look()
    assert "worker-back" in [each.kind for each in told]


def test_the_second_machine_dies_and_comes_back_and_the_first_is_not_touched(first, second, both):
    processes = {own.process.pid for own in own_processes(first.state.root)}
    with Asking(both.url, "Kawan-Usaha", clients=8) as asking:
        asking.wait_for(16)
        for own in own_processes(second.state.root):
            own.process.kill()
        end_all(second.state.root, grace_s=0)
        asking.wait_for(len(asking.outcomes) + 32)
    assert_only_what_was_in_progress_failed(asking, clients=8)
    assert len(asking.texts()) == 1
    start(second.home, NAME)
    until(lambda: pieces(first, "gpu2", after=lambda: ask(both, 4)) > 0, within_s=60)
    assert {own.process.pid for own in own_processes(first.state.root)} == processes


def test_while_the_engine_here_is_gone_the_second_machine_answers_alone(first, both):
    engine = next(o.process for o in own_processes(first.state.root) if o.role == both.slot)
    with Asking(both.url, "Kawan-Usaha", clients=4) as asking:
        asking.wait_for(8)
        engine.kill()
        asking.wait_for(len(asking.outcomes) + 16, None)
    assert_only_what_was_in_progress_failed(asking, clients=4)


def test_without_the_key_in_the_environment_and_without_the_second_machine_it_starts_again(
    first, second, both, environment
):
    stopped = [end_all(host.state.root, grace_s=20) for host in (first, second)]
    assert all(stopped)
    environment.delenv(VARIABLE)
    said: list[str] = []
    try:
        deployment = start(first.home, NAME, say=said.append)
    finally:
        environment.setenv(VARIABLE, KEY)
    assert any("gpu2 does not answer" in each for each in said)
    assert set(ask(deployment, 4).fates()) == {"whole"}
    start(second.home, NAME)
    until(lambda: pieces(first, "gpu2", after=lambda: ask(deployment, 4)) > 0, within_s=60)


def test_stop_leaves_no_key(first, both):
    assert first.state.workers.exists()
    stop(first.home, NAME)
    assert not first.state.workers.exists()
