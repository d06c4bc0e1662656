"""The only Prefect glue: how a stage becomes a task.

Covers the retry rule, the way from `Store.build` to a Prefect state (`Cached` when the artifact was
there already), progress, and the short description of a result that tasks hand to one another.
Prefect's own cache is off: a record of it can outlive the artifact that it speaks of.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar, cast
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import MissingContextError
from prefect.states import Completed, Failed
from prefect.tasks import Task
from pydantic import BaseModel, ConfigDict, JsonValue

from tasks.core.errors import DiskFull, KawanUsahaError
from tasks.core.home import home
from tasks.core.keys import StageKey
from tasks.core.measure import Cost
from tasks.core.room import with_advice
from tasks.core.store import Built, RunStore, Staging, Store

P = ParamSpec("P")
R = TypeVar("R")

RETRY_DELAYS_S = (5.0, 30.0, 120.0)
REPORT_EVERY_S = 2.0


class StageResult(BaseModel):
    """What a stage made, in the few words that the next stage and the report need."""

    model_config = ConfigDict(frozen=True)

    stage: str
    artifact: str
    digest: str
    path: Path
    cached: bool
    freed: bool = False
    wall_s: float
    size_bytes: int
    peak_memory_bytes: int
    facts: dict[str, JsonValue] = {}

    @classmethod
    def after(
        cls, model: "StageResult", stage: str, cost: Cost, *, cached: bool, **facts: JsonValue
    ) -> "StageResult":
        """Return the description of what was done with a model without making another artifact."""
        return model.model_copy(
            update={
                "stage": stage,
                "cached": cached,
                "wall_s": cost.wall_s,
                "peak_memory_bytes": cost.peak_memory_bytes,
                "facts": facts,
            }
        )

    @classmethod
    def of(cls, built: Built, stage: str) -> "StageResult":
        """Return the description of an artifact. The cost is what building it took back then."""
        artifact = built.artifact
        return cls(
            stage=stage,
            artifact=str(artifact.key),
            digest=artifact.digest,
            path=artifact.path,
            cached=built.cached,
            freed=artifact.freed,
            wall_s=artifact.manifest.wall_s,
            size_bytes=artifact.manifest.size_bytes,
            peak_memory_bytes=artifact.manifest.peak_memory_bytes,
            facts=artifact.manifest.facts,
        )


def may_pass_by_itself(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """Tell Prefect whether trying again can help: only for an error that says so itself."""
    try:
        state.result()
    except KawanUsahaError as error:
        return error.retryable
    except Exception:  # noqa: BLE001 - a bug, whatever it raises, is not cured by a retry
        return False
    return False


def stage_task(name: str, run_name: str | None = None) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Return the decorator that makes a function the task of one stage.

    run_name is what a run is called in the UI, with the task's arguments in braces.
    A StageResult that the function returns becomes the task's state, `Cached` or `Completed`; `run`
    calls such a task and returns its result. What stops the process is noted with the stage that it
    struck.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        @functools.wraps(function)
        def explained(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                made = function(*args, **kwargs)
            except DiskFull as error:
                advised = with_advice(error, home())
                get_run_logger().error("%s", advised)
                raise advised from error
            except KawanUsahaError as error:
                get_run_logger().error("%s", error)
                raise
            except BaseException as stop:
                if not isinstance(stop, Exception):
                    stop.add_note(f"Interrupted stage: {name}.")
                raise
            # Prefect unwraps a returned state: `run` gives the StageResult again.
            return cast("R", completed(made)) if isinstance(made, StageResult) else made

        as_task = task(
            name=name,
            task_run_name=run_name or name,
            retries=len(RETRY_DELAYS_S),
            retry_delay_seconds=list(RETRY_DELAYS_S),
            retry_condition_fn=may_pass_by_itself,
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        return as_task(explained)

    return decorate


def run(stage: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return the result of a stage, run in this thread.

    Never `submit`: Prefect would work in a thread that no signal reaches, and wait for it when the
    run is cancelled.
    """
    state: State[R] = stage(*args, return_state=True, **kwargs)
    return state.result()


def explained_failure(error: KawanUsahaError) -> State[KawanUsahaError]:
    """Return the failed state that shows the error's advice instead of a traceback."""
    return Failed(message=str(error), data=error)


_STORE: ContextVar[Store | None] = ContextVar("store", default=None)
"""The store of the run that this code belongs to. Prefect hands the context to a task's thread."""


def run_store() -> Store:
    """Return the store as the run in progress sees it, or the plain one outside of a run."""
    return _STORE.get() or Store(home())


@contextmanager
def running(run: RunStore) -> Iterator[RunStore]:
    """Make every stage in the block a stage of this run."""
    token = _STORE.set(run)
    try:
        yield run
    finally:
        _STORE.reset(token)


def build_stage(
    key: StageKey,
    write: Callable[[Staging], None],
    params: object,
    inputs: Mapping[str, str],
    reads: Sequence[StageResult] = (),
) -> StageResult:
    """Return the result of a stage, made now or found in the store.

    reads are the results whose files write reads; one that was freed is made again before.
    """
    needs = [result.artifact for result in reads]
    built = run_store().build(key, write, params=params, inputs=inputs, needs=needs)
    return StageResult.of(built, key.stage)


def completed(result: StageResult) -> State[StageResult]:
    """Return the state that shows in the UI what was done, or that nothing had to be."""
    size = f"{result.size_bytes / 1e6:,.1f} MB"
    if result.cached:
        what = "made and freed earlier" if result.freed else "reused"
        message = f"{result.artifact}: {what}, {size}, took {result.wall_s:.1f} s when it was made"
        return Completed(name="Cached", message=message, data=result)
    memory = f"{result.peak_memory_bytes / 1e6:,.0f} MB peak memory"
    message = f"{result.artifact}: {size}, {result.wall_s:.1f} s, {memory}"
    return Completed(message=message, data=result)


class StageProgress:
    """A Report that shows bytes, rate and time left as log lines and a Prefect progress artifact.

    The artifact appears with the first report that comes later than REPORT_EVERY_S after the start:
    a stage that is done at once needs none. With `log` off the stage tells its steps itself, and
    what it said last (`said`) stands in the artifact in place of amounts and rate.
    """

    def __init__(self, what: str, unit: str = "bytes", *, log: bool = True) -> None:
        self.said = ""
        self._log = log
        self._what = what
        self._unit = unit
        self._started = self._shown = time.monotonic()
        self._artifact: UUID | None = None
        self._lock = threading.Lock()
        self._logger = _logger()

    def __call__(self, done: int, total: int) -> None:
        """Take over how far the work is; shown at most every REPORT_EVERY_S."""
        now = time.monotonic()
        if not self._lock.acquire(blocking=False):
            return
        try:
            finished = self._artifact is not None and done >= total
            if total > 0 and (now - self._shown >= REPORT_EVERY_S or finished):
                self._shown = now
                self._show(done, total, now - self._started)
        finally:
            self._lock.release()

    def _show(self, done: int, total: int, elapsed_s: float) -> None:
        percent = 100.0 * done / total
        words = self.said or progress_line(done, total, elapsed_s, self._unit)
        line = f"{self._what}: {words}"
        if self._log:
            self._logger.info(line)
        try:
            if self._artifact is None:
                made = create_progress_artifact(percent, description=line)
                self._artifact = made if isinstance(made, UUID) else None
            else:
                update_progress_artifact(self._artifact, percent, description=line)
        except MissingContextError:
            return


def progress_line(done: int, total: int, elapsed_s: float, unit: str = "bytes") -> str:
    """Return how far, how fast and how long still, in one line."""
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    left = f"{timedelta(seconds=round((total - done) / rate))} left" if rate > 0 else "time unknown"
    if unit == "bytes":
        amounts = f"{done / 1e9:.2f} of {total / 1e9:.2f} GB, {rate / 1e6:.0f} MB/s"
    else:
        amounts = f"{done} of {total} {unit}, {rate:.2f} {unit}/s"
    return f"{done / total:.0%}, {amounts}, {left}"


def _logger() -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)
