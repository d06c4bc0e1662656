"""What killed processes have left on a real server is closed, or found to be silent."""

import time

import httpx
import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.context import FlowRunContext
from prefect.states import Completed, Running

from flows.automations import HEARTBEAT
from flows.leftovers import await_signs_of_life, close_tasks_of_earlier_attempts

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


@flow
def attempt() -> str:
    with get_client(sync_client=True) as client:
        left = left_running(client)
        close_tasks_of_earlier_attempts()
        return str(left.id)


@flow
def calling() -> str:
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


def test_flow_that_was_called_leaves_that_to_its_caller() -> None:
    assert state_of(calling()).type is StateType.RUNNING


def test_no_server_is_no_reason_for_a_flow_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def without_a_server() -> State[None]:
        def refuse(*_: object, **__: object) -> None:
            raise httpx.ConnectError("refused")

        monkeypatch.setattr("flows.leftovers.get_client", refuse)
        close_tasks_of_earlier_attempts()
        return Completed()

    assert without_a_server(return_state=True).is_completed()


def heartbeats(client: SyncPrefectClient, run: FlowRun) -> int:
    mine = {"id": [f"prefect.flow-run.{run.id}"]}
    only = {"filter": {"event": {"name": [HEARTBEAT]}, "resource": mine}}
    return len(client.request("POST", "/events/filter", json=only).json()["events"])


def test_run_that_counts_as_running_gets_one_heartbeat_and_an_ended_one_none() -> None:
    with get_client(sync_client=True) as client:
        ended = client.create_flow_run(attempt, state=Completed())
        killed = client.create_flow_run(attempt, state=Running())
        await_signs_of_life(client)
        give_up = time.monotonic() + GIVE_UP_S
        while not heartbeats(client, killed):
            assert time.monotonic() < give_up
            time.sleep(0.2)
        assert (heartbeats(client, killed), heartbeats(client, ended)) == (1, 0)
