"""An outbox for Prefect's API: artifacts and events, sent in the background.

A thread sends them, each in its newest state, and retries while the API cannot be reached. The
invariant: nothing here raises or delays a stage; only `flush` waits, and for a limited time.
"""

import atexit
import contextvars
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Protocol
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectNotFound

_log = logging.getLogger(__name__)

FLUSH_WITHIN_S = 5.0
RETRY_EVERY_S = 2.0
REQUEST_WITHIN_S = 10.0
_MOST_PENDING = 256
_MAY_PASS = (408, 429, 500, 502, 503, 504)


class Outgoing(Protocol):
    """Something to send to the API, more than once if need be."""

    is_refused: bool
    """Whether the API has refused it for good. Then it is not sent."""

    @property
    def newest(self) -> object:
        """The state to send; another object once there is a newer one."""

    def send(self) -> None:
        """Send the newest state. Raises whatever the client raises."""


class Page:
    """One Prefect artifact, of which only the newest state is sent.

    It belongs to the task or flow run in whose context it is created, whichever thread updates it
    later. Outside of any run it is not sent.
    """

    def __init__(self, kind: str, *, key: str | None = None) -> None:
        flow, task = FlowRunContext.get(), TaskRunContext.get()
        own_flow_run_id = flow.flow_run.id if flow and flow.flow_run else None
        self._task_run_id = task.task_run.id if task else None
        self._flow_run_id = (task.task_run.flow_run_id if task else None) or own_flow_run_id
        self._kind, self._key = kind, key
        self._context = contextvars.copy_context()  # the settings that name the API
        self._sent_as: UUID | None = None
        self.newest: tuple[str | float, str] = ("", "")
        self.is_refused = self._flow_run_id is None and self._task_run_id is None

    def __str__(self) -> str:
        """Return the name of the artifact for messages."""
        return "an artifact"

    def show(self, data: str | float, description: str) -> None:
        """Set what the artifact shows, and queue it. Returns at once."""
        self.newest = (data, description)
        post(self)

    def send(self) -> None:
        """Send the newest state. Raises whatever the client raises."""
        self._context.run(self._send)

    def _send(self) -> None:
        data, description = self.newest
        settings = {"timeout": REQUEST_WITHIN_S}
        # With these settings it is not the engine's client, which other threads use and which
        # retries for a minute.
        with get_client(httpx_settings=settings, sync_client=True) as client:
            if self._sent_as is not None:
                change = ArtifactUpdate(data=data, description=description)
                if _updated(client, self._sent_as, change):
                    return
            made = client.create_artifact(
                ArtifactCreate(
                    type=self._kind,
                    key=self._key,
                    data=data,
                    description=description,
                    flow_run_id=self._flow_run_id,
                    task_run_id=self._task_run_id,
                )
            )
            self._sent_as = made.id


def show_markdown(text: str, *, key: str, description: str) -> None:
    """Show a text on the run's page, and in the list of artifacts under its key."""
    Page("markdown", key=key).show(text, description)


def post(message: Outgoing) -> None:
    """Queue a message, unless the API has refused it. Returns at once."""
    if not message.is_refused:
        _sender.post(message)


def as_code(words: Iterable[str]) -> str:
    """Return the words as inline code of a markdown text."""
    return ", ".join(f"`{word.replace('`', chr(39))}`" for word in words)


def flush(within_s: float = FLUSH_WITHIN_S) -> None:
    """Wait until everything is sent: at most within_s, and not for an API that is away."""
    _sender.flush(within_s)


class _Sender:
    """The thread that sends messages, each in its newest state, the oldest first."""

    def __init__(self) -> None:
        self._pending: dict[Outgoing, None] = {}  # ordered, each message at most once
        self._changed = threading.Condition()
        self._failures = 0
        self._is_awaited = False
        self._thread: threading.Thread | None = None
        self._closed = False

    def post(self, message: Outgoing) -> None:
        with self._changed:
            self._pending[message] = None
            if len(self._pending) > _MOST_PENDING:
                del self._pending[next(iter(self._pending))]
            if self._thread is None and not self._closed:
                self._begin()
            self._changed.notify_all()

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        try:
            self._thread.start()
            atexit.register(self.close)  # before Prefect ends its temporary server
        except RuntimeError:  # no more threads, or Python is exiting
            self._closed = True

    def flush(self, within_s: float) -> None:
        with self._changed:
            failures = self._failures
            self._is_awaited = True  # retry now instead of later
            self._changed.notify_all()
            self._wait(within_s, until=lambda: not self._pending or self._failures > failures)
            self._is_awaited = False

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while (message := self._next()) is not None:
            sent = message.newest
            problem = _problem_of(message)
            if problem is None:
                self._succeeded(message, sent)
            elif _may_pass(problem):
                self._failed(problem)
            else:
                self._refused(message, problem)

    def _next(self) -> Outgoing | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closed)
            return None if self._closed else next(iter(self._pending))

    def _succeeded(self, message: Outgoing, sent: object) -> None:
        with self._changed:
            self._pending.pop(message, None)
            if message.newest is not sent:
                self._pending[message] = None
            failures, self._failures = self._failures, 0
            self._changed.notify_all()
        if failures:
            _log.info("The Prefect API answers again; the run page catches up.")

    def _failed(self, problem: Exception) -> None:
        if self._failures == 0:
            _log.warning(
                "The Prefect API cannot be reached: the run page is behind, the run goes on. (%s)",
                problem,
            )
        with self._changed:
            self._failures += 1
            self._changed.notify_all()
            self._wait(RETRY_EVERY_S, until=lambda: self._is_awaited)

    def _refused(self, message: Outgoing, problem: Exception) -> None:
        _log.warning("Prefect refuses %s; the run page will lack it: %s", message, problem)
        with self._changed:
            message.is_refused = True
            self._pending.pop(message, None)
            self._changed.notify_all()

    def _wait(self, within_s: float, *, until: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: until() or self._closed, within_s)


def _updated(client: SyncPrefectClient, artifact: UUID, change: ArtifactUpdate) -> bool:
    """Return False if the API does not know the artifact any more."""
    try:
        client.update_artifact(artifact, change)
    except (ObjectNotFound, httpx.HTTPStatusError) as error:
        if _status(error) == httpx.codes.NOT_FOUND:
            return False
        raise
    return True


def _problem_of(message: Outgoing) -> Exception | None:
    try:
        message.send()
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not reach the work
        return error
    return None


def _may_pass(problem: Exception) -> bool:
    """Return whether the API may accept the same message later."""
    return isinstance(problem, httpx.TransportError) or _status(problem) in _MAY_PASS


def _status(error: Exception) -> int | None:
    cause = error.http_exc if isinstance(error, ObjectNotFound) else error
    return cause.response.status_code if isinstance(cause, httpx.HTTPStatusError) else None


_sender = _Sender()
