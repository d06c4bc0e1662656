"""What Prefect is told, sent beside the work: it never fails the work, nor delays it.

Covers every artifact of the project, and whatever else is a Letter. A thread of its own sends them,
a page in its newest state; while the API cannot be reached the thread tries again and the work goes
on. The invariant: nothing here raises, and only `flush` waits, for a time that is limited.
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


class Letter(Protocol):
    """What can be sent to the API, and sent once more while that cannot be reached."""

    is_refused: bool
    """Whether the API will not take it. Then it is not sent."""

    @property
    def newest(self) -> object:
        """What would be sent now; another object once there is something newer."""

    def send(self) -> None:
        """Bring what is newest to the API. Raises whatever the client raises."""


class Page:
    """One artifact of the run that makes it: what it shows last is what is sent.

    It belongs to the task or flow run in whose context it is made, whichever thread shows more on
    it later. Outside of any run it is sent nowhere.
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
        """Return what a message about it calls it."""
        return "an artifact"

    def show(self, data: str | float, description: str) -> None:
        """Show this from now on, as soon as the API takes it. Returns at once."""
        self.newest = (data, description)
        post(self)

    def send(self) -> None:
        """Bring the newest state to the API. Raises whatever the client raises."""
        self._context.run(self._send)

    def _send(self) -> None:
        data, description = self.newest
        settings = {"timeout": REQUEST_WITHIN_S}
        # With settings of its own this is another client than the engine's, which other threads use
        # and which tries for a minute before it gives up.
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


def post(letter: Letter) -> None:
    """Send a letter as soon as the API takes it, unless it is refused. Returns at once."""
    if not letter.is_refused:
        _courier.post(letter)


def as_code(words: Iterable[str]) -> str:
    """Return words for a markdown text that must not take them for its own signs."""
    return ", ".join(f"`{word.replace('`', chr(39))}`" for word in words)


def flush(within_s: float = FLUSH_WITHIN_S) -> None:
    """Wait until all is sent, at most within_s, and not for an API that cannot be reached."""
    _courier.flush(within_s)


class _Courier:
    """The thread that sends letters, each in its newest state, the one that waits longest first."""

    def __init__(self) -> None:
        self._pending: dict[Letter, None] = {}  # ordered, and each letter at most once
        self._changed = threading.Condition()
        self._failures = 0
        self._is_awaited = False
        self._thread: threading.Thread | None = None
        self._closed = False

    def post(self, letter: Letter) -> None:
        with self._changed:
            self._pending[letter] = None
            if len(self._pending) > _MOST_PENDING:
                del self._pending[next(iter(self._pending))]
            if self._thread is None and not self._closed:
                self._begin()
            self._changed.notify_all()

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name="telling", daemon=True)
        try:
            self._thread.start()
            atexit.register(self.close)  # before Prefect ends the server that it has started
        except RuntimeError:  # no more threads, or Python is about to end
            self._closed = True

    def flush(self, within_s: float) -> None:
        with self._changed:
            failures = self._failures
            self._is_awaited = True  # what waits for its next attempt begins it now
            self._changed.notify_all()
            self._wait(within_s, until=lambda: not self._pending or self._failures > failures)
            self._is_awaited = False

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while (letter := self._next()) is not None:
            sent = letter.newest
            problem = _problem_of(letter)
            if problem is None:
                self._succeeded(letter, sent)
            elif _may_pass(problem):
                self._failed(problem)
            else:
                self._refused(letter, problem)

    def _next(self) -> Letter | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closed)
            return None if self._closed else next(iter(self._pending))

    def _succeeded(self, letter: Letter, sent: object) -> None:
        with self._changed:
            self._pending.pop(letter, None)
            if letter.newest is not sent:
                self._pending[letter] = None
            failures, self._failures = self._failures, 0
            self._changed.notify_all()
        if failures:
            _log.info("The Prefect API answers again, and the run page catches up.")

    def _failed(self, problem: Exception) -> None:
        if self._failures == 0:
            _log.warning(
                "The Prefect API cannot be reached, so the run page is behind. The work goes on. "
                "(%s)",
                problem,
            )
        with self._changed:
            self._failures += 1
            self._changed.notify_all()
            self._wait(RETRY_EVERY_S, until=lambda: self._is_awaited)

    def _refused(self, letter: Letter, problem: Exception) -> None:
        _log.warning("Prefect refuses %s, which the run page will lack: %s", letter, problem)
        with self._changed:
            letter.is_refused = True
            self._pending.pop(letter, None)
            self._changed.notify_all()

    def _wait(self, within_s: float, *, until: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: until() or self._closed, within_s)


def _updated(client: SyncPrefectClient, artifact: UUID, change: ArtifactUpdate) -> bool:
    """Return False when the API does not know the artifact, or knows it no longer."""
    try:
        client.update_artifact(artifact, change)
    except (ObjectNotFound, httpx.HTTPStatusError) as error:
        if _status(error) == httpx.codes.NOT_FOUND:
            return False
        raise
    return True


def _problem_of(letter: Letter) -> Exception | None:
    try:
        letter.send()
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not reach the work
        return error
    return None


def _may_pass(problem: Exception) -> bool:
    """Return whether the API may take the same page later."""
    return isinstance(problem, httpx.TransportError) or _status(problem) in _MAY_PASS


def _status(error: Exception) -> int | None:
    cause = error.http_exc if isinstance(error, ObjectNotFound) else error
    return cause.response.status_code if isinstance(cause, httpx.HTTPStatusError) else None


_courier = _Courier()
