"""The state of a task while it waits for its next attempt or for another run.

A failure here is logged and fails no run.
"""

import logging
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.states import AwaitingRetry, Running
from prefect.utilities.engine import emit_task_run_state_change_event

from tasks.progress import log_line

_log = logging.getLogger(__name__)

_WAITS: ContextVar[UUID | None] = ContextVar("waits", default=None)
"""The task run that was last shown as waiting."""


def awaits_retry(run: TaskRun, message: str, delay_s: float) -> None:
    """Show that the task is retried after this delay, and why."""
    due = datetime.now(UTC) + timedelta(seconds=delay_s)
    _show(run, AwaitingRetry(scheduled_time=due, message=message))


def waits(line: str) -> None:
    """Log what the stage in this context waits for, and show its task as `Waiting`."""
    log_line(line)
    context = TaskRunContext.get()
    if context is not None:
        _WAITS.set(context.task_run.id)
        _show(context.task_run, Running(name="Waiting", message=line))


def works() -> None:
    """Show the task of the stage in this context as running again, if it was waiting."""
    context = TaskRunContext.get()
    if context is not None and _WAITS.get() == context.task_run.id:
        _WAITS.set(None)
        _show(context.task_run, Running())


def _show(run: TaskRun, state: State[object]) -> None:
    try:
        state.state_details.task_run_id = run.id
        state.state_details.flow_run_id = run.flow_run_id
        emit_task_run_state_change_event(run, run.state, state)
    except Exception as error:  # noqa: BLE001
        _log.warning("The run page does not show what a task waits for: %s", error)
