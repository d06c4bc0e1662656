"""The state of a deployment on the disk."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.core.errors import ServingFailed, UsageError
from tasks.core.recipe import Deploy
from tasks.core.recipe.deploy import Gateway
from tasks.core.serving.state.directory import StateDirectory, state_directories, state_directory
from tasks.core.serving.state.files import (
    read_deployment,
    read_previous,
    used_builds,
    write_record,
    write_routes,
)
from tasks.core.serving.state.record import gateway_url
from tasks.core.serving.state.routes import Routes
from tests.deployments import deployment, put_on_record


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    state = state_directory(tmp_path, "kawan")
    state.root.mkdir(parents=True)
    return state


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/b", ".hidden", "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="name of a deployment is invalid"):
        state_directory(tmp_path, name)


@pytest.mark.parametrize("text", ["", "{", '{"route": "kawan"}'])
def test_damaged_routes_are_an_error_that_says_what_to_do(state, text):
    state.routes.write_text(text)
    with pytest.raises(ServingFailed, match="kawan-usaha stop kawan"):
        read_deployment(state)


def test_a_damaged_record_is_an_error_that_says_what_to_do(state):
    put_on_record(state, deployment(state))
    state.slot("blue").record.write_text("{")
    with pytest.raises(ServingFailed, match="kawan-usaha stop kawan"):
        read_deployment(state)


def test_without_routes_there_is_no_deployment(state):
    assert read_deployment(state) is None
    assert read_previous(state) is None


def test_a_record_without_a_route_to_it_does_not_serve(state):
    put_on_record(state, deployment(state))
    write_routes(state, Routes(why_not="It is replaced."))
    assert read_deployment(state) is None
    assert read_previous(state) == deployment(state)


def test_a_record_comes_back_as_it_was_written(state):
    written = deployment(state)
    put_on_record(state, written)
    assert read_deployment(state) == written


def test_what_served_before_is_the_record_of_the_other_slot(state):
    put_on_record(state, deployment(state, build="b0"))
    put_on_record(state, deployment(state, slot="green"))
    assert read_previous(state) == deployment(state, build="b0")


def test_where_nothing_serves_what_was_started_last_served_last(state):
    later = datetime(2026, 11, 24, tzinfo=UTC) + timedelta(hours=1)
    put_on_record(state, deployment(state, build="b2", started_at=later))
    put_on_record(state, deployment(state, slot="green"))
    write_routes(state, Routes())
    assert read_previous(state) == deployment(state, build="b2", started_at=later)


def test_a_model_is_in_use_from_before_its_record_until_its_slot_retires(state, tmp_path):
    slot = state.slot("green")
    slot.prepare(tmp_path / "merge-12ab")
    assert used_builds(tmp_path) == {"merge-12ab"}
    write_record(state, deployment(state, slot="green"))
    slot.retire()
    assert used_builds(tmp_path) == set()
    assert slot.record.exists()


def test_how_a_deployment_began_is_not_on_record(state):
    put_on_record(state, deployment(state, reused=True, switched={"how": "first"}))
    assert read_deployment(state) == deployment(state)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("192.0.2.7", "http://192.0.2.7:8000"),
    ],
)
def test_a_gateway_is_reached_at_an_address_that_this_machine_has(host, url):
    assert gateway_url(Gateway(host=host)) == url


def test_the_time_of_start_and_the_patience_do_not_make_another_service(state):
    later = deployment(
        state,
        started_at=datetime.now(UTC),
        settings=Deploy(startup_timeout_s=10, drain_s=1, switch="replace"),
        slot="green",
        engine_port=40002,
    )
    assert deployment(state).same_service(later)


@pytest.mark.parametrize(
    "change",
    [
        {"build": "b2"},
        {"template": "one_shot"},
        {"settings": Deploy(load_8bit=False)},
        {"settings": Deploy(engine="vllm")},
        {"settings": Deploy(gateway=Gateway(max_queued=1))},
        {"expected_edit": None},
        {"versions": {"torch": "3"}},
    ],
)
def test_whatever_a_client_could_notice_makes_another_service(state, change):
    assert not deployment(state).same_service(deployment(state, **change))


def test_other_limits_of_the_gateway_leave_the_engine_as_it_is(state):
    other = deployment(state, settings=Deploy(gateway=Gateway(max_queued=1), shadow_requests=0))
    assert deployment(state).same_engine(other)


def test_the_socket_lies_in_the_state_directory_where_its_path_is_short_enough():
    state = StateDirectory(Path("/srv/serving/kawan"))
    assert state.socket == state.root / "supervisor.sock"


def test_a_long_home_gets_a_short_private_socket_that_is_always_the_same(tmp_path):
    long = StateDirectory(tmp_path / ("x" * 120))
    assert len(str(long.socket)) < 100
    assert long.socket == StateDirectory(long.root).socket
    assert long.socket != long.gateway_socket
    assert long.socket != StateDirectory(tmp_path / ("y" * 120)).socket
    assert long.socket.parent.stat().st_mode & 0o077 == 0


def test_locks_and_stray_files_are_no_deployments(state, tmp_path):
    state.lock.touch()
    assert [each.name for each in state_directories(tmp_path)] == ["kawan"]
    assert list(state_directories(tmp_path / "nowhere")) == []
