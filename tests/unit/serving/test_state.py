"""The state of a deployment on the disk."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.core.errors import ServingFailed, UsageError
from tasks.core.recipe import Deploy
from tasks.core.serving.state import (
    Deployment,
    StateDirectory,
    read_deployment,
    state_directories,
    state_directory,
    write_deployment,
)


def deployment(state: StateDirectory, **changes: object) -> Deployment:
    values = {
        "name": state.name,
        "build": "b1",
        "model": Path("/models/one"),
        "template": "vicuna_v1.1",
        "settings": Deploy(),
        "expected_edit": {"activations": ["gelu"]},
        "versions": {"torch": "2"},
        "state": state.root,
        "socket": state.socket,
        "started_at": datetime(2026, 11, 24, tzinfo=UTC),
        **changes,
    }
    return Deployment.model_validate(values)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    state = state_directory(tmp_path, "kawan")
    state.root.mkdir(parents=True)
    return state


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/b", ".hidden", "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="no name for a deployment"):
        state_directory(tmp_path, name)


@pytest.mark.parametrize("text", ["", "{", '{"name": "kawan"}'])
def test_a_damaged_record_is_an_error_that_says_what_to_do(state, text):
    state.deployment.write_text(text)
    with pytest.raises(ServingFailed, match="kawan-usaha stop kawan"):
        read_deployment(state)


def test_without_a_record_there_is_no_deployment(state):
    assert read_deployment(state) is None


def test_a_record_comes_back_as_it_was_written(state):
    written = deployment(state)
    write_deployment(state, written)
    assert read_deployment(state) == written


def test_that_a_deployment_was_reused_is_not_on_record(state):
    write_deployment(state, deployment(state, reused=True))
    assert read_deployment(state) == deployment(state, reused=False)


def test_the_time_of_start_and_the_patience_do_not_make_another_service(state):
    later = deployment(
        state, started_at=datetime.now(UTC), settings=Deploy(startup_timeout_s=10), reused=True
    )
    assert deployment(state).same_service(later)


@pytest.mark.parametrize(
    "change",
    [
        {"build": "b2"},
        {"template": "one_shot"},
        {"settings": Deploy(load_8bit=False)},
        {"expected_edit": None},
        {"versions": {"torch": "3"}},
    ],
)
def test_whatever_a_client_could_notice_makes_another_service(state, change):
    assert not deployment(state).same_service(deployment(state, **change))


def test_the_socket_lies_in_the_state_directory_where_its_path_is_short_enough():
    state = StateDirectory(Path("/srv/serving/kawan"))
    assert state.socket == state.root / "supervisor.sock"


def test_a_long_home_gets_a_short_private_socket_that_is_always_the_same(tmp_path):
    long = StateDirectory(tmp_path / ("x" * 120))
    assert len(str(long.socket)) < 100
    assert long.socket == StateDirectory(long.root).socket
    assert long.socket != StateDirectory(tmp_path / ("y" * 120)).socket
    assert long.socket.parent.stat().st_mode & 0o077 == 0


def test_locks_and_stray_files_are_no_deployments(state, tmp_path):
    state.lock.touch()
    assert [each.name for each in state_directories(tmp_path)] == ["kawan"]
    assert list(state_directories(tmp_path / "nowhere")) == []
