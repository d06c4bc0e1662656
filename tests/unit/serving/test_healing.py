"""What is down is started again from its record; what a start would not mend is left alone."""

from pathlib import Path

import pytest

from tasks.core.files.locks import locked
from tasks.core.serving.launch.deployment import deploy
from tasks.core.serving.observe.healing import can_be_started, heal
from tasks.core.serving.observe.status import DeploymentStatus, status
from tasks.core.serving.state.directory import StateDirectory, state_directory
from tasks.core.serving.state.files import write_routes
from tasks.core.serving.state.routes import Routes
from tasks.core.serving.supervision.processes import end_all
from tests.deployments import deployment, put_on_record
from tests.models import tiny_llama


def silent(_: str) -> None:
    pass


@pytest.fixture
def gone(tmp_path: Path, settings):
    """A deployment on record of which nothing runs, and whose model is not there either."""
    state = state_directory(tmp_path, "kawan")
    state.root.mkdir(parents=True)
    put_on_record(state, deployment(state, settings=settings()))
    return state


def test_what_cannot_be_started_is_down_and_says_why(tmp_path, gone):
    (looked,) = heal(tmp_path, restart=True, say=silent)
    assert looked.outcome == "down"
    assert "/models/one" in looked.words


def test_without_restart_it_is_only_told(tmp_path, gone):
    (looked,) = heal(tmp_path, restart=False, say=silent)
    assert looked.outcome == "left alone"
    assert looked.words.startswith("gone: ")


def test_what_another_process_starts_is_left_to_it(tmp_path, settings):
    model = tiny_llama(tmp_path / "model", layers=1)
    state = state_directory(tmp_path, "kawan")
    state.root.mkdir(parents=True)
    record = deployment(state, settings=settings(), model=model, expected_edit=None)
    put_on_record(state, record)
    with locked(state.lock, "deploy kawan"):
        (looked,) = heal(tmp_path, restart=True, say=silent)
    assert looked.outcome == "left alone"
    assert "deploy kawan" in looked.words


def test_replacement_that_was_cut_off_is_not_finished_but_undone(tmp_path, gone):
    write_routes(gone, Routes(why_not="It is replaced."))
    (found,) = status(tmp_path)
    assert can_be_started(found)
    assert found.deployment.build == "b1"


@pytest.mark.parametrize("health", ["healthy", "starting", "unsupervised"])
def test_what_serves_or_is_being_started_gets_no_remedy(health):
    record = deployment(StateDirectory(Path("/srv/kawan")))
    assert not can_be_started(DeploymentStatus("kawan", health, None, record, (), None))


def test_record_that_cannot_be_read_cannot_be_started_again():
    found = DeploymentStatus("kawan", "unhealthy", "why", None, (), None)
    assert not can_be_started(found)


@pytest.mark.slow
def test_deployment_that_was_killed_answers_again(tmp_path, settings):
    model = tiny_llama(tmp_path / "model", layers=1)
    names = {"name": "kawan", "template": "vicuna_v1.1", "home": tmp_path, "build": "b1"}
    deploy(model, settings(), **names)
    end_all(state_directory(tmp_path, "kawan").root, grace_s=1)
    (looked,) = heal(tmp_path, restart=True, say=silent)
    assert looked.outcome == "healed"
    (again,) = heal(tmp_path, restart=True, say=silent)
    assert (again.outcome, again.words) == ("healthy", "answers")
