"""What killed processes have left on the server: tasks and runs that count as running for ever.

Telling only: whatever fails here fails no work.
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

from flows.automations import HEARTBEAT, MOST_ATTEMPTS, RESTART, RESTARTED, TAG

_log = logging.getLogger(__name__)

_REQUEST_WITHIN_S = 10.0
_UNFINISHED = [StateType.RUNNING, StateType.PENDING]
_PAGE = 200
_NOT_FORGOTTEN = timedelta(days=1)
_LATE = timedelta(seconds=20)
_BEGINS_WITHIN = timedelta(minutes=5)
"""Far more than a process takes to begin, on a busy machine too."""


def close_tasks_of_earlier_attempts() -> None:
    """Record as Crashed what an earlier attempt of this flow run was at when it was killed.

    To be called by a flow before its first task: what counts as running by then has no process.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    try:
        settings = {"timeout": _REQUEST_WITHIN_S}
        with get_client(httpx_settings=settings, sync_client=True) as client:
            _close_tasks(client, context.flow_run.id)
    except Exception as error:  # noqa: BLE001 - the run page then shows them as running
        _log.warning("Tasks of an earlier attempt cannot be closed: %s", error)


def _close_tasks(client: SyncPrefectClient, flow_run: UUID) -> None:
    unfinished = TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNFINISHED))
    for task in client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])),
        task_run_filter=TaskRunFilter(state=unfinished),
    ):
        message = "Its process was killed. The next attempt goes on with what it has left."
        client.set_task_run_state(task.id, Crashed(message=message), force=True)


def start_crashed_again(client: SyncPrefectClient) -> list[str]:
    """Start again the runs that crashed within a day and that nothing has started again.

    Returns their names. The automation that does so has _LATE more than it takes by itself. Keeps
    to its rules: nothing is started when it is not there or switched off, no run of others, and
    none that has begun MOST_ATTEMPTS times.
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


def declare_unbegun(client: SyncPrefectClient) -> list[str]:
    """Record as Crashed the runs that a worker has taken and nobody begins; return their names.

    A worker that is killed between the two leaves them Pending, and no later one takes them. They
    give no heartbeat that could be missed, and count against the limit of their pool. Only in pools
    whose workers start processes: elsewhere a run is Pending for as long as its machine takes.
    """
    now, unbegun = datetime.now(UTC), []
    for run in client.read_flow_runs(flow_run_filter=_ours(StateType.PENDING), limit=_PAGE):
        if run.state is None or now - run.state.timestamp < _BEGINS_WITHIN:
            continue
        pool = run.work_pool_name
        if pool is not None and client.read_work_pool(pool).type == "process":
            crashed: State[None] = Crashed(message="Its worker was killed before it began.")
            client.set_flow_run_state(run.id, crashed, force=True)
            unbegun.append(run.name)
    return unbegun


def await_signs_of_life(client: SyncPrefectClient) -> None:
    """Give each run of ours that counts as running one heartbeat; its own are expected then.

    A server that was killed may have lost the last ones, and then nobody misses the next. A run
    that is alive, here or on another machine, goes on giving its own; any other one is found to be
    silent, and is started again.
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
        tags=FlowRunFilterTags(all_=[TAG]),
    )
