"""What killed processes have left on a real server is closed, or found to be silent."""

import time
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.context import FlowRunContext
from prefect.states import Completed, Crashed, Pending, Running

from flows.prefect_server.automations import (
    HEARTBEAT,
    PROJECT_TAG,
    RESTART,
    RESTART_AFTER_S,
    recovery_automations,
)
from flows.prefect_server.crashed_runs import (
    close_tasks_of_earlier_attempts,
    expect_heartbeats,
    mark_unstarted_as_crashed,
    restart_crashed_runs,
)
from flows.prefect_server.recovery import recover_once, recover_while_up

pytestmark = pytest.mark.usefixtures("prefect")
GIVE_UP_S = 300


@task
def stage() -> None:
    """Stands for the task that an earlier attempt was at."""


def left_running(client: SyncPrefectClient) -> TaskRun:
    """Make a task of the flow run in progress that runs, and of which no process is left."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return client.create_task_run(stage, context.flow_run.id, dynamic_key="0", state=Running())


def refuse(*_: object, **__: object) -> None:
    raise httpx.ConnectError("refused")


@flow
def attempt() -> str:
    with get_client(sync_client=True) as client:
        left = left_running(client)
        close_tasks_of_earlier_attempts()
        return str(left.id)


@flow
def calling() -> str:
    """As `rebuild-across` does."""
    return attempt()


def state_of(task_run: str) -> State[object]:
    with get_client(sync_client=True) as client:
        state = client.read_task_run(task_run).state  # type: ignore[arg-type]
    assert state is not None
    return state


def test_task_that_an_earlier_attempt_was_at_is_recorded_as_crashed() -> None:
    state = state_of(attempt())
    assert state.type is StateType.CRASHED
    assert "Its process was killed" in (state.message or "")


def test_run_that_another_one_has_called_closes_its_own_tasks_too() -> None:
    assert state_of(calling()).type is StateType.CRASHED


def test_no_server_is_no_reason_for_a_flow_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def without_a_server() -> State[None]:
        monkeypatch.setattr("flows.prefect_server.crashed_runs.get_client", refuse)
        close_tasks_of_earlier_attempts()
        return Completed()

    assert without_a_server(return_state=True).is_completed()


@pytest.fixture
def automation() -> Iterator[UUID]:
    """The automation that starts crashed runs again, as it is installed."""
    (wanted,) = (each for each in recovery_automations() if each.name == RESTART)
    with get_client(sync_client=True) as client:
        made = client.create_automation(wanted)
        yield made
        client.delete_automation(made)


@pytest.fixture
def due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has crashed counts as missed."""
    monkeypatch.setattr(
        "flows.prefect_server.crashed_runs._LATE", -timedelta(seconds=RESTART_AFTER_S)
    )


def crashed_runs(client: SyncPrefectClient) -> tuple[FlowRun, FlowRun]:
    """Make a run of a deployment of this project and one of somebody else's, both Crashed."""
    flow_id = client.create_flow(attempt)

    def crashed(*tags: str) -> FlowRun:
        deployment = client.create_deployment(flow_id, name=f"of {tags}", tags=list(tags))
        return client.create_flow_run_from_deployment(deployment, state=Crashed())

    return crashed(PROJECT_TAG, "demo"), crashed("else")


@pytest.mark.usefixtures("due_at_once")
def test_run_that_crashed_unheard_is_started_again_if_it_is_ours(automation: UUID) -> None:
    with get_client(sync_client=True) as client:
        deployed, other = crashed_runs(client)
        restart_crashed_runs(client)
        assert client.read_flow_run(deployed.id).state_name == "AwaitingRetry"
        assert client.read_flow_run(other.id).state_name == "Crashed"


def test_run_that_the_automation_may_still_start_is_left_to_it(automation: UUID) -> None:
    with get_client(sync_client=True) as client:
        deployed, _ = crashed_runs(client)
        assert restart_crashed_runs(client) == []
        assert client.read_flow_run(deployed.id).state_name == "Crashed"


def test_recovery_reports_that_the_server_is_away_and_asks_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr("flows.prefect_server.recovery.get_client", refuse)
        recover_while_up(range(1))
    assert "does not answer" in caplog.text
    caplog.clear()
    recover_while_up(range(1))
    assert "does not answer" not in caplog.text


def test_recovery_asks_with_one_client_for_as_long_as_the_server_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, looked = [], []
    monkeypatch.setattr("flows.prefect_server.recovery._POLL_S", 0)
    monkeypatch.setattr(
        "flows.prefect_server.recovery.get_client",
        lambda **given: made.append(1) or get_client(**given),
    )
    monkeypatch.setattr(
        "flows.prefect_server.recovery.restart_crashed_runs", lambda _: looked.append(1) or []
    )
    recover_while_up(range(5))
    assert (len(made), len(looked)) == (1, 5)


@pytest.mark.usefixtures("due_at_once")
def test_no_run_is_started_again_once_the_automation_is_switched_off(automation: UUID) -> None:
    with get_client(sync_client=True) as client:
        client.pause_automation(automation)
        deployed, _ = crashed_runs(client)
        restart_crashed_runs(client)
        assert client.read_flow_run(deployed.id).state_name == "Crashed"


def heartbeats(client: SyncPrefectClient, run: FlowRun) -> int:
    mine = {"id": [f"prefect.flow-run.{run.id}"]}
    only = {"filter": {"event": {"name": [HEARTBEAT]}, "resource": mine}}
    return len(client.request("POST", "/events/filter", json=only).json()["events"])


def test_run_that_counts_as_running_gets_one_heartbeat_an_ended_one_and_others_none() -> None:
    with get_client(sync_client=True) as client:
        ended = client.create_flow_run(attempt, state=Completed(), tags=[PROJECT_TAG])
        others = client.create_flow_run(attempt, state=Running())
        killed = client.create_flow_run(attempt, state=Running(), tags=[PROJECT_TAG])
        expect_heartbeats(client)
        give_up = time.monotonic() + GIVE_UP_S
        while not heartbeats(client, killed):
            assert time.monotonic() < give_up
            time.sleep(0.2)
        assert [heartbeats(client, each) for each in (killed, ended, others)] == [1, 0, 0]


@pytest.fixture
def begins_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run needs any time between its worker and its begin."""
    monkeypatch.setattr("flows.prefect_server.crashed_runs._BEGINS_WITHIN", timedelta(0))


def taken_run(client: SyncPrefectClient, pool: str, tag: str = PROJECT_TAG) -> FlowRun:
    """Make a run in a pool as it is when its worker has been killed before it began."""
    kind = "process" if pool == "of-processes" else "kubernetes"
    client.create_work_pool(WorkPoolCreate(name=pool, type=kind), overwrite=True)
    deployment = client.create_deployment(
        client.create_flow(attempt), name=f"{pool} {tag}", tags=[tag], work_pool_name=pool
    )
    return client.create_flow_run_from_deployment(deployment, state=Pending())


@pytest.mark.usefixtures("begins_at_once")
def test_run_whose_worker_was_killed_before_it_began_is_crashed_and_so_comes_back() -> None:
    with get_client(sync_client=True) as client:
        taken = taken_run(client, "of-processes")
        others = taken_run(client, "of-processes", "else")
        may_wait = taken_run(client, "of-machines")
        assert taken.name in mark_unstarted_as_crashed(client)
        names = [client.read_flow_run(each.id).state_name for each in (taken, others, may_wait)]
        assert names == ["Crashed", "Pending", "Pending"]


def test_run_that_is_just_about_to_begin_is_left_alone() -> None:
    with get_client(sync_client=True) as client:
        taken = taken_run(client, "of-processes")
        assert taken.name not in mark_unstarted_as_crashed(client)
        assert client.read_flow_run(taken.id).state_name == "Pending"


@pytest.mark.usefixtures("begins_at_once")
def test_recovery_marks_what_nobody_begins_as_crashed() -> None:
    with get_client(sync_client=True) as client:
        taken = taken_run(client, "of-processes")
        recover_once(client)
        assert client.read_flow_run(taken.id).state_name == "Crashed"
