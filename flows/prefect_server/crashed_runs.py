"""Tasks and runs of killed processes, which the server would count as running for ever.

A failure here is logged and fails no run.
"""

import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.events.schemas.automations import EventTrigger
from prefect.states import AwaitingRetry, Crashed

from flows.prefect_server.automations import (
    HEARTBEAT,
    MOST_ATTEMPTS,
    PROJECT_TAG,
    RESTART,
    RESTARTED,
)

_log = logging.getLogger(__name__)

_REQUEST_WITHIN_S = 10.0
_UNFINISHED = [StateType.RUNNING, StateType.PENDING]
_PAGE = 200
_NOT_FORGOTTEN = timedelta(days=1)
_LATE = timedelta(seconds=20)
_BEGINS_WITHIN = timedelta(minutes=5)
"""Far longer than a process takes to start, even on a busy machine."""


def close_tasks_of_earlier_attempts() -> None:
    """Mark as Crashed the tasks that an earlier, killed attempt of this flow run left unfinished.

    A flow calls it before its first task, when no task of the run can have a process.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    try:
        settings = {"timeout": _REQUEST_WITHIN_S}
        with get_client(httpx_settings=settings, sync_client=True) as client:
            _close_tasks(client, context.flow_run.id)
    except Exception as error:  # noqa: BLE001 - then the run page shows them as running
        _log.warning("Cannot mark the tasks of an earlier attempt as crashed: %s", error)


def _close_tasks(client: SyncPrefectClient, flow_run: UUID) -> None:
    unfinished = TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNFINISHED))
    for task in client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])),
        task_run_filter=TaskRunFilter(state=unfinished),
    ):
        message = "Its process was killed. The next attempt resumes from what it left."
        client.set_task_run_state(task.id, Crashed(message=message), force=True)


def restart_crashed_runs(client: SyncPrefectClient) -> list[str]:
    """Restart the runs that crashed within a day and were not restarted; return their names.

    The automation that should restart them gets _LATE seconds more than it needs. Its rules hold
    here too: nothing is restarted if it is missing or switched off, nor a run of another project,
    nor one that was attempted MOST_ATTEMPTS times.
    """
    automation = next(iter(client.read_automations_by_name(RESTART)), None)
    if automation is None or not automation.enabled:
        return []
    if not isinstance(automation.trigger, EventTrigger):
        return []
    now, again = datetime.now(UTC), []
    due = now - automation.trigger.within - _LATE
    for run in client.read_flow_runs(
        flow_run_filter=_ours(StateType.CRASHED),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=_PAGE,
    ):
        is_due = run.state is not None and now - _NOT_FORGOTTEN < run.state.timestamp <= due
        if run.run_count < MOST_ATTEMPTS and is_due:
            state: State[None] = AwaitingRetry(scheduled_time=now, message=RESTARTED)
            client.set_flow_run_state(run.id, state, force=True)
            again.append(run.name)
    return again


def mark_unstarted_as_crashed(client: SyncPrefectClient) -> list[str]:
    """Mark as Crashed the runs that a worker took but never started; return their names.

    A worker that is killed between the two leaves a run Pending, and no other worker takes it. It
    sends no heartbeat that could be missed, and counts against the limit of its pool. Only in
    process pools: elsewhere a run is Pending for as long as its machine takes to start.
    """
    now, unbegun = datetime.now(UTC), []
    for run in client.read_flow_runs(flow_run_filter=_ours(StateType.PENDING), limit=_PAGE):
        if run.state is None or now - run.state.timestamp < _BEGINS_WITHIN:
            continue
        pool = run.work_pool_name
        if pool is not None and client.read_work_pool(pool).type == "process":
            crashed: State[None] = Crashed(message="Its worker was killed before it started.")
            client.set_flow_run_state(run.id, crashed, force=True)
            unbegun.append(run.name)
    return unbegun


def expect_heartbeats(client: SyncPrefectClient) -> None:
    """Send one heartbeat for each run of ours that counts as running, so that more are expected.

    A killed server may have lost the last heartbeats, and would then miss none. A live run, on any
    machine, keeps sending its own; any other is found silent and restarted.
    """
    for run in client.read_flow_runs(flow_run_filter=_ours(StateType.RUNNING), limit=_PAGE):
        beat = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": HEARTBEAT,
            "resource": {
                "prefect.resource.id": f"prefect.flow-run.{run.id}",
                "prefect.resource.name": run.name,
                "prefect.version": prefect.__version__,
            },
        }
        client.request("POST", "/events", json=[beat])


def _ours(state: StateType) -> FlowRunFilter:
    return FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state])),
        tags=FlowRunFilterTags(all_=[PROJECT_TAG]),
    )
