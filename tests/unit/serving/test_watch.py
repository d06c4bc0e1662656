"""What hangs, was given up or was left over is found and mended; what is at work is left alone."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks.core.errors import ServingFailed
from tasks.core.files.locks import locked
from tasks.core.process.ports import free_port
from tasks.core.recipe.deploy import ChatPage
from tasks.core.serving.gateway.control import GatewayControl
from tasks.core.serving.health import probe
from tasks.core.serving.launch.deployment import deploy
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.observe.incidents import Incident
from tasks.core.serving.observe.status import status
from tasks.core.serving.observe.watch import DeploymentWatch
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.processes import own_processes
from tasks.core.serving.supervision.supervisord import Supervisor
from tests.models import tiny_llama

GIVE_UP_S = 1200
NAME = "kawan"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory, serving_home, settings) -> Iterator[Deployment]:
    model = tiny_llama(tmp_path_factory.mktemp("models") / "one", layers=1)
    yield deploy(
        model, settings(), name=NAME, template="vicuna_v1.1", home=serving_home, build="b1"
    )
    stop(serving_home, NAME)


@pytest.fixture
def state(deployment):
    """The deployment's state; its own watch is ended, so that only the test's one looks."""
    state = state_directory(deployment.state.parents[1], NAME)
    Supervisor(state.socket).stop("watch")
    return state


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that does not answer hangs after seconds, as long as nobody asks it anything."""
    monkeypatch.setattr("tasks.core.serving.observe.looks._IDLE_S", 10.0)
    monkeypatch.setattr("tasks.core.serving.observe.looks.LOOK_EVERY_S", 0.0)


def silent(_: Incident) -> None:
    pass


def look_until(watch: DeploymentWatch, kind: str) -> list[Incident]:
    deadline, found = time.monotonic() + GIVE_UP_S, []
    while kind not in [each.kind for each in found]:
        assert time.monotonic() < deadline, found
        found += watch.look()
        time.sleep(0.5)
    return found


def answers_again(state) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while [each.health for each in status(state.root.parents[1])] != ["healthy"]:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def process_of(state, role: str) -> psutil.Process:
    return next(own.process for own in own_processes(state.root) if own.role == role)


def test_a_deployment_that_is_well_has_no_incident(state):
    watch = DeploymentWatch(state, silent)
    assert [watch.look(), watch.look()] == [[], []]


def test_nothing_is_touched_while_another_process_switches(state):
    process_of(state, "blue").suspend()
    try:
        with locked(state.lock, "deploy kawan"):
            assert DeploymentWatch(state, silent).look() == []
    finally:
        process_of(state, "blue").resume()


@pytest.mark.usefixtures("hasty")
def test_an_engine_that_hangs_with_its_port_open_is_started_again(state):
    watch, told = DeploymentWatch(state, silent), []
    watch._tell = told.append
    assert watch.look() == []
    stopped = process_of(state, "blue")
    stopped.send_signal(signal.SIGSTOP)
    found = look_until(watch, "hangs")
    assert [each.process for each in found] == ["blue"]
    assert told == found
    stopped.wait(GIVE_UP_S)  # until supervisord has taken note of its end
    answers_again(state)
    counted = GatewayControl(state.gateway_socket).metrics()
    assert 'kind="hangs"' in counted
    lines = (state.logs / "incidents.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["kind"] == "hangs"


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_a_gateway_that_hangs_is_started_again(state):
    watch = DeploymentWatch(state, silent)
    assert watch.look() == []
    for role in ("gateway-0", "gateway-1"):
        process_of(state, role).send_signal(signal.SIGSTOP)
    look_until(watch, "hangs")
    answers_again(state)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_a_page_that_hangs_or_was_given_up_is_started_again(state, deployment):
    pytest.importorskip("gradio")
    page = {"page": ChatPage(port=free_port())}
    with_page = deployment.settings.model_copy(update=page)
    served = deploy(
        deployment.model,
        with_page,
        name=NAME,
        template=deployment.template,
        home=state.root.parents[1],
        build=deployment.build,
    )
    watch = DeploymentWatch(state, silent)
    assert watch.look() == []
    process_of(state, "page").suspend()
    (incident,) = look_until(watch, "hangs")
    assert incident.process == "page"
    until_page_answers(served)
    assert watch.look() == []
    Supervisor(state.socket).stop("page")
    (incident,) = watch.look()
    assert (incident.kind, incident.process) == ("given-up", "page")
    until_page_answers(served)


def until_page_answers(deployment: Deployment) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        try:
            return probe.require_page(deployment.page_url)
        except ServingFailed:
            assert time.monotonic() < deadline
            time.sleep(0.5)


@pytest.mark.slow
def test_an_engine_that_supervisord_has_given_up_is_started_again(state):
    watch = DeploymentWatch(state, silent)
    watch.look()
    Supervisor(state.socket).stop("blue")
    (incident,) = watch.look()
    assert (incident.kind, incident.process) == ("given-up", "blue")
    answers_again(state)


@pytest.mark.slow
def test_an_engine_that_died_is_told_of(state):
    watch = DeploymentWatch(state, silent)
    watch.look()
    process_of(state, "blue").kill()
    answers_again(state)
    (incident,) = watch.look()
    assert (incident.kind, incident.process) == ("died", "blue")


@pytest.mark.slow
def test_the_engine_of_a_switch_that_was_killed_is_ended(state, deployment, tmp_path):
    model = tiny_llama(tmp_path / "two", layers=1, seed=2)
    code = (
        "import sys; from pathlib import Path; from tasks.core.recipe import Deploy\n"
        "from tasks.core.serving.launch.deployment import deploy\n"
        "model, home, settings = sys.argv[1:]\n"
        "deploy(Path(model), Deploy.model_validate_json(settings), name='kawan', "
        "template='vicuna_v1.1', home=Path(home), build='b2')"
    )
    home = state.root.parents[1]
    arguments = [str(model), str(home), deployment.settings.model_dump_json()]
    with subprocess.Popen([sys.executable, "-c", code, *arguments]) as switching:
        deadline = time.monotonic() + GIVE_UP_S
        while "green" not in {own.role for own in own_processes(state.root)}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        switching.kill()
    look_until(DeploymentWatch(state, silent), "left-over")
    assert "green" not in {own.role for own in own_processes(state.root)}
    (found,) = status(Path(home))
    assert (found.health, found.deployment.build) == ("healthy", "b1")
