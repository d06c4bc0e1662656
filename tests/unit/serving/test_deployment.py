"""Deployments that fail, are replaced, lose their supervisor, and are stopped."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.errors import (
    CorruptWeights,
    EditLost,
    LockBusy,
    NotAModel,
    PortTaken,
    RecipeError,
    ServingFailed,
    SignatureRefused,
    UsageError,
)
from tasks.core.files.locks import holders, locked
from tasks.core.files.temporary import new_file
from tasks.core.machine import devices
from tasks.core.recipe import Deploy
from tasks.core.recipe.deploy import EngineName
from tasks.core.serving.launch.deployment import _versions, deploy, rollback, start
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.launch.ports import can_bind
from tasks.core.serving.launch.startup import EngineStart
from tasks.core.serving.observe.status import status
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.state.files import read_deployment, read_previous, used_builds, write_routes
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.state.routes import Routes
from tasks.core.serving.supervision.processes import own_processes
from tests.deployments import deployment, put_on_record
from tests.models import tiny_llama
from tests.unit.serving.models import reporting_llama

Settings = Callable[..., Deploy]


def deploy_model(model: Path, settings: Deploy, home: Path, **changes: object):
    arguments = {"name": "kawan", "template": "vicuna_v1.1", "home": home, "build": "b1"}
    return deploy(model, settings, **{**arguments, **changes})


def nothing_is_left(home: Path, settings: Deploy) -> bool:
    state = state_directory(home, "kawan")
    left = {path.name for path in state.root.iterdir()} - {"logs"}
    free = can_bind(settings.gateway.host, settings.gateway.port)
    return not left and not own_processes(state.root) and free and status(home) == []


def nothing_serves(home: Path, settings: Deploy) -> bool:
    """Return whether a start that failed has left no process, no model and no route."""
    state = state_directory(home, "kawan")
    free = can_bind(settings.gateway.host, settings.gateway.port)
    return (
        free
        and not own_processes(state.root)
        and read_deployment(state) is None
        and not used_builds(home)
    )


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 1200
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# --- refused before anything is started ----------------------------------------------------


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_directory_that_is_no_model_is_refused(tmp_path, settings, missing):
    model = tiny_llama(tmp_path / "model")
    for path in model.glob("tokenizer*" if "tokenizer" in missing else missing):
        path.unlink()
    with pytest.raises(NotAModel):
        deploy_model(model, settings(), tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_special_token_that_the_embedding_has_no_row_for_is_refused(tmp_path, settings):
    model = tiny_llama(tmp_path / "model", layers=1, vocab=259)
    tokenizer = load_tokenizer(model)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(model)
    with pytest.raises(NotAModel, match=r"'\[PAD\]' has the id 259"):
        deploy_model(model, settings(), tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_directory_that_is_not_there_is_refused(tmp_path, settings):
    with pytest.raises(NotAModel, match="no such directory"):
        deploy_model(tmp_path / "model", settings(), tmp_path / "home")


def test_a_configuration_that_is_cut_off_is_refused(tmp_path, settings):
    model = tiny_llama(tmp_path / "model")
    (model / "config.json").write_text('{"model_type": "lla')
    with pytest.raises(NotAModel, match="not valid JSON"):
        deploy_model(model, settings(), tmp_path / "home")


def test_settings_that_fastchat_would_not_follow_leave_nothing(tmp_path, settings):
    model = tiny_llama(tmp_path / "model")
    wanted = settings(load_8bit=True, gpus=2)
    with pytest.raises(RecipeError, match="8-bit"):
        deploy_model(model, wanted, tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_taken_port_is_named_before_anything_is_started(tmp_path, settings):
    model, wanted = tiny_llama(tmp_path / "model"), settings()
    with (
        socket.create_server(("127.0.0.1", wanted.gateway.port)),
        pytest.raises(PortTaken, match=str(wanted.gateway.port)),
    ):
        deploy_model(model, wanted, tmp_path / "home")
    assert nothing_serves(tmp_path / "home", wanted)


def test_two_deployments_of_one_name_do_not_start_at_once(tmp_path, settings):
    model = tiny_llama(tmp_path / "model")
    lock = state_directory(tmp_path, "kawan").lock
    with locked(lock, "deploy kawan"), pytest.raises(LockBusy, match="held by deploy kawan"):
        deploy_model(model, settings(), tmp_path)


def test_stop_leaves_the_logs_alone_of_what_was_killed(tmp_path):
    state = state_directory(tmp_path, "kawan")
    state.logs.mkdir(parents=True)
    with new_file(state.root) as (_, begun):
        pass
    socket_begun = state.socket.with_name(f"{state.socket.name}.123")
    holder = state.gateway_lock.with_name(f"{state.gateway_lock.name}@0123456789abcdef")
    left = (begun, state.socket, socket_begun, state.gateway_lock, holder)
    for path in (*left, state.logs / "supervisord.pid", state.logs / "gateway-0.log"):
        path.touch()
    stop(tmp_path, "kawan")
    names = [path.name for path in state.root.rglob("*")]
    assert sorted(names) == ["gateway-0.log", "logs"]


def test_a_deployment_that_does_not_exist_cannot_be_stopped(tmp_path):
    with pytest.raises(UsageError, match="no deployment of this name"):
        stop(tmp_path, "kawan")


# --- refused by the process that serves ----------------------------------------------------


@pytest.mark.usefixtures("preforked_deployment")
def test_a_worker_that_does_not_show_the_edit_serves_nobody(tmp_path, settings):
    model, wanted = reporting_llama(tmp_path / "model"), settings()
    promised = {"activations": ["silu", "relu", "gelu"]}
    with pytest.raises(EditLost) as caught:
        deploy_model(model, wanted, tmp_path / "home", expected_edit=promised)
    assert "relu" in str(caught.value.expected)
    assert '["silu", "silu", "gelu"]' in str(caught.value.found)
    assert nothing_serves(tmp_path / "home", wanted)
    log = (tmp_path / "home" / "serving" / "kawan" / "logs" / "gateway-0.log").read_text()
    assert "routed to" not in log


def test_weights_that_are_cut_off_are_named_and_nothing_is_left(tmp_path, settings):
    model, wanted = tiny_llama(tmp_path / "model"), settings()
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CorruptWeights, match="truncated"):
        deploy_model(model, wanted, tmp_path / "home")
    assert not (tmp_path / "home").exists()


# --- in place of an earlier one ---------------------------------------------------------------


@pytest.fixture
def earlier(tmp_path, settings):
    """A deployment on record, as it stands there after a restart of the machine."""
    home = tmp_path / "home"
    state = state_directory(home, "kawan")
    state.root.mkdir(parents=True)
    model = tiny_llama(tmp_path / "earlier")
    record = deployment(state, build="b0", model=model, settings=settings(), expected_edit=None)
    record = record.model_copy(update={"versions": _versions()})
    put_on_record(state, record)
    return record


@pytest.mark.parametrize("engine", get_args(EngineName))
def test_what_can_be_refused_is_refused_before_the_earlier_one_is_touched(
    tmp_path, settings, earlier, engine
):
    model, wanted = tiny_llama(tmp_path / "model"), settings(engine=engine)
    with pytest.raises(RecipeError, match="no such conversation template"):
        deploy_model(model, wanted, tmp_path / "home", template="vicuna_v9")
    assert read_deployment(state_directory(tmp_path / "home", "kawan")) == earlier


@pytest.mark.slow
def test_the_earlier_one_serves_again_when_the_new_one_lacks_its_edit(tmp_path, settings, earlier):
    model, home = reporting_llama(tmp_path / "model"), tmp_path / "home"
    promised = {"activations": ["silu", "relu", "gelu"]}
    with pytest.raises(EditLost, match="The earlier deployment serves again"):
        deploy_model(model, settings(), home, expected_edit=promised)
    (found,) = status(home)
    assert (found.health, found.deployment.build) == ("healthy", "b0")
    state = state_directory(home, "kawan")
    assert "relu" in (state.failed_logs / "green.log").read_text()
    assert [each.what for each in holders(devices.lock_directory() / "cpu.serving")] == [
        "deployment kawan"
    ]
    stop(home, "kawan")
    assert read_previous(state) is None


@pytest.mark.usefixtures("preforked_deployment")
def test_an_interrupted_replacement_says_how_the_earlier_one_starts_again(
    tmp_path, settings, earlier, monkeypatch
):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EngineStart, "run", interrupt)
    model, home = tiny_llama(tmp_path / "model"), tmp_path / "home"
    with pytest.raises(KeyboardInterrupt) as caught:
        deploy_model(model, settings(), home)
    assert "kawan-usaha start kawan" in "".join(caught.value.__notes__)
    (found,) = status(home)
    assert found.health == "gone"
    assert "kawan-usaha start kawan" in found.problem
    assert used_builds(home) == {"earlier"}


@pytest.mark.slow
def test_what_was_ended_for_another_one_is_started_again(tmp_path, earlier):
    home = tmp_path / "home"
    write_routes(state_directory(home, "kawan"), Routes(why_not="It is replaced."))
    with pytest.raises(UsageError, match="kawan-usaha start kawan"):
        rollback(home, "kawan")
    assert start(home, "kawan").build == "b0"
    assert [each.health for each in status(home)] == ["healthy"]
    with pytest.raises(UsageError, match="no such deployment on record"):
        rollback(home, "kawan")


def test_a_record_that_may_not_be_served_is_refused_before_anything_is_started(tmp_path, earlier):
    def refuse(record: Deployment) -> None:
        assert record == earlier
        raise SignatureRefused("It is not what was signed.")

    home = tmp_path / "home"
    with pytest.raises(SignatureRefused):
        start(home, "kawan", require=refuse)
    assert not own_processes(state_directory(home, "kawan").root)
    assert read_deployment(state_directory(home, "kawan")) == earlier


@pytest.mark.usefixtures("preforked_deployment")
def test_what_is_started_by_no_person_needs_no_file_of_a_key(
    tmp_path, settings, earlier, monkeypatch
):
    """The watch brings back what was read when it was deployed."""

    class Started(BaseException):
        pass

    def started(*_: object) -> None:
        raise Started

    monkeypatch.setattr(EngineStart, "run", started)
    home, signed = tmp_path / "home", settings(signed_by="gone.pub")
    state = state_directory(home, "kawan")
    put_on_record(state, earlier.model_copy(update={"settings": signed}))
    with pytest.raises(Started):
        start(home, "kawan")


@pytest.mark.slow
def test_a_model_that_is_gone_cannot_be_started(tmp_path, earlier):
    shutil.rmtree(earlier.model)
    with pytest.raises(UsageError, match="model of that deployment is gone"):
        start(tmp_path / "home", "kawan")


@pytest.mark.slow
def test_it_is_said_when_the_earlier_one_does_not_start_either_and_its_record_stays(
    tmp_path, settings, earlier, monkeypatch
):
    def fail(*_: object) -> None:
        raise ServingFailed("The engine does not answer.", next_step="Read its log.")

    monkeypatch.setattr(EngineStart, "run", fail)
    model, home = tiny_llama(tmp_path / "model"), tmp_path / "home"
    with pytest.raises(ServingFailed, match="does not serve either: The engine does not answer"):
        deploy_model(model, settings(), home)
    assert read_previous(state_directory(home, "kawan")) == earlier
    assert stop(home, "kawan").ended == ()
    assert status(home) == []


@pytest.mark.usefixtures("preforked_deployment")
def test_a_start_that_fails_can_be_tried_again(tmp_path, earlier, monkeypatch):
    def fail(*_: object) -> None:
        raise ServingFailed("The engine does not answer.")

    monkeypatch.setattr(EngineStart, "run", fail)
    home = tmp_path / "home"
    for _ in range(2):
        with pytest.raises(ServingFailed, match="`kawan-usaha start kawan` tries again"):
            start(home, "kawan")
    assert read_previous(state_directory(home, "kawan")) == earlier
    assert used_builds(home) == {"earlier"}


# --- the life of one deployment ------------------------------------------------------------


@pytest.mark.slow
def test_a_start_that_was_cut_off_is_seen_and_can_be_stopped(tmp_path, settings):
    model, wanted, home = tiny_llama(tmp_path / "model"), settings(), tmp_path / "home"
    code = (
        "import sys; from pathlib import Path; from tasks.core.recipe import Deploy\n"
        "from tasks.core.serving.launch.deployment import deploy\n"
        "model, home, settings = sys.argv[1:]\n"
        "deploy(Path(model), Deploy.model_validate_json(settings), name='kawan', "
        "template='vicuna_v1.1', home=Path(home), build='b1')"
    )
    arguments = [str(model), str(home), wanted.model_dump_json()]
    with subprocess.Popen([sys.executable, "-c", code, *arguments]) as deploying:
        state = state_directory(home, "kawan")
        wait_until(lambda: "blue" in {own.role for own in own_processes(state.root)})
        deploying.kill()
    (found,) = status(home)
    assert found.health == "starting"
    assert "supervisord" in stop(home, "kawan").ended
    assert nothing_is_left(home, wanted)


@pytest.mark.slow
def test_a_deployment_goes_on_without_its_supervisor_and_is_replaced_by_the_next(
    tmp_path, settings
):
    model, wanted, home = tiny_llama(tmp_path / "model"), settings(), tmp_path / "home"
    first = deploy_model(model, wanted, home)
    before = {own.role: own.process for own in own_processes(first.state)}
    before["supervisord"].kill()
    wait_until(lambda: len(own_processes(first.state)) == len(before) - 1)
    (found,) = status(home)
    assert found.health == "unsupervised", found.problem

    # Its ports are held by the deployment itself: that is no reason to refuse.
    second = deploy_model(model, wanted, home)
    assert not second.reused
    assert not any(process.is_running() for process in before.values())
    assert [found.health for found in status(home)] == ["healthy"]

    roles = {"supervisord", "gateway-0", "gateway-1", "watch", "blue"}
    assert set(stop(home, "kawan").ended) == roles
    assert nothing_is_left(home, wanted)


def test_a_record_whose_processes_are_gone_is_not_believed(tmp_path, settings):
    state, wanted = state_directory(tmp_path, "kawan"), settings()
    state.root.mkdir(parents=True)
    put_on_record(state, deployment(state, settings=wanted))
    (found,) = status(tmp_path)
    assert found.health == "gone"
    assert {process.state for process in found.processes} == {"gone"}
    assert stop(tmp_path, "kawan").ended == ()
    assert nothing_is_left(tmp_path, wanted)
