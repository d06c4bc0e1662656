"""The only Prefect glue: turns a stage into a task.

Covers the retry rule, the Prefect state for a result of `Store.build` (`Cached` if the artifact
existed already), and the short description of a result that tasks pass to one another. Prefect's
own cache is off, because its records can outlive the artifacts that they describe.
"""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.logging.loggers import task_run_logger
from prefect.states import Failed
from prefect.tasks import Task

from tasks.core.errors import KawanUsahaError
from tasks.core.home import home
from tasks.core.keys import StageKey
from tasks.core.signing import configured_key
from tasks.core.store import RunStore, Staging, Store, configured_remote
from tasks.core.system.threads import pause, run_all
from tasks.explain import known_failure
from tasks.progress import log_line, shown_stage, working_for
from tasks.stage_result import StageResult, completed, outcome_line
from tasks.task_states import awaits_retry, works

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

RETRY_DELAYS_S = (5.0, 30.0, 120.0)


def wait_if_it_may_pass(delays_s: Sequence[float]) -> Callable[..., bool]:
    """Return a retry condition for Prefect that waits before it returns.

    A retry helps only with an error that says so. Prefect calls the condition when a retry is left,
    and retries if it is true. Prefect's own delay would show a state without an explanation, so the
    wait is here, and the message of the state `AwaitingRetry` is the whole error. After the last of
    delays_s every wait has that length.
    """

    def condition(task: Task[..., object], run: TaskRun, state: State[object]) -> bool:
        try:
            state.result()
        except KawanUsahaError as error:
            if error.retryable:
                delay_s = delays_s[min(run.run_count, len(delays_s)) - 1]
                logger = task_run_logger(run, task)
                logger.info("%s Trying again in %g s.", error.what, delay_s)
                awaits_retry(run, f"Trying again in {delay_s:g} s. {error}", delay_s)
                pause(delay_s)
            return error.retryable
        except Exception:  # noqa: BLE001 - a bug, whatever it raises, is not cured by a retry
            return False
        return False

    return condition


def stage_task(
    name: str,
    run_name: Callable[..., str] | None = None,
    *,
    retry_delays_s: Sequence[float] | None = None,
    retries: int | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Return the decorator that turns a function into the task of one stage.

    run_name makes the name of a run in the UI from the task's arguments by name. A StageResult that
    the function returns becomes the task's state, `Cached` or `Completed`; `run` calls such a task
    and returns its result. An interrupt gets a note with the stage that it interrupted. A temporary
    error is followed by `retries` more attempts, by default one per delay.
    """
    delays_s = retry_delays_s or RETRY_DELAYS_S

    def named(parameters: dict[str, Any]) -> str:
        try:
            return f"{name} {run_name(**parameters)}" if run_name else name
        except Exception as error:  # noqa: BLE001 - a name must not fail the work
            _log.warning("The name of a run of %s could not be made: %r", name, error)
            return name

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        @functools.wraps(function)
        def shown(*args: P.args, **kwargs: P.kwargs) -> R:
            with shown_stage() as stage:
                with _failing_as(name):
                    made = function(*args, **kwargs)
                stage.outcome = outcome_line(made)
            # Prefect unwraps a returned state: `run` returns the StageResult.
            return cast("R", completed(made)) if isinstance(made, StageResult) else made

        as_task = task(
            name=name,
            task_run_name=cast("Any", named),  # its protocol has more than the call
            retries=len(delays_s) if retries is None else retries,
            retry_condition_fn=wait_if_it_may_pass(delays_s),
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        return as_task(shown)

    return decorate


@contextmanager
def _failing_as(stage: str) -> Iterator[None]:
    """Log and raise a failure of the block explained; note the stage on a bug and an interrupt."""
    try:
        yield
    except Exception as error:
        known = known_failure(error)
        if known is None:
            error.add_note(f"Stage: {stage}.")
            raise
        get_run_logger().error("%s", known)
        if known is error:
            raise
        raise known from error
    except BaseException as stop:
        stop.add_note(f"Interrupted stage: {stage}.")
        raise


def run(stage: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return the result of a stage, run in this thread.

    Never `submit`: Prefect would use a thread that no signal reaches, and wait for it when the run
    is cancelled. For several at once see `run_together`.
    """
    state: State[R] = stage(*args, return_state=True, **kwargs)
    return state.result()


def run_together(*stages: tuple[str, Callable[[], R]]) -> list[R]:
    """Return the results of concurrent stages; each argument names one, and runs it.

    A stop of the run reaches all of them. After the first error the others are interrupted, and it
    is raised; what they have made so far is kept, and the next attempt resumes from it. An
    interrupt gets a note with the names of those that were running.
    """
    running = [name for name, _ in stages]

    def one(name: str, stage: Callable[[], R]) -> R:
        made = stage()
        running.remove(name)
        return made

    calls = [functools.partial(one, *named) for named in stages]
    try:
        return run_all(calls, threads=len(calls), name="stages", stop=lambda: None)
    except BaseException as stop:
        if running and not isinstance(stop, Exception):
            names = sorted(set(running))
            stop.add_note(f"Interrupted stage{'s' * (len(names) > 1)}: {', '.join(names)}.")
        raise


def _is_not_told(record: logging.LogRecord) -> bool:
    """Return whether a log record is more than the traceback of an explained error."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, KawanUsahaError)


def explained_failure(error: Exception) -> State[KawanUsahaError]:
    """Log an exception explained, and return the failed state with the explanation.

    The traceback of a library's exception is in the log only. An unknown exception is raised again.
    """
    known = known_failure(error)
    if known is None:
        raise error
    foreign = None if known is error or known.__cause__ is error else error
    get_run_logger().error("%s", known, exc_info=foreign)
    # A worker's engine raises the error of the failed state, and logs it again.
    logging.getLogger("prefect.flow_runs").addFilter(_is_not_told)
    return Failed(message=str(known), data=known)


def attempt_of() -> str | None:
    """Return the id that all attempts of the current run share; None outside of a run."""
    run = FlowRunContext.get()
    return str(run.flow_run.id) if run is not None and run.flow_run is not None else None


_STORE: ContextVar[Store | None] = ContextVar("store", default=None)
"""The store of the current run. Prefect passes the context to a task's thread."""


def run_store() -> Store:
    """Return the store of the current run, or a plain one outside of a run."""
    return _STORE.get() or Store(
        home(), say=log_line, remote=configured_remote(), key=configured_key()
    )


@contextmanager
def running(run: RunStore) -> Iterator[RunStore]:
    """Make every stage in the block part of this run."""
    token = _STORE.set(run)
    try:
        with working_for(run.record.recipe):
            yield run
    finally:
        _STORE.reset(token)


def build_stage(
    key: StageKey,
    write: Callable[[Staging], None],
    params: object,
    inputs: Mapping[str, str],
    reads: Sequence[StageResult] = (),
    *,
    needs: Sequence[str] = (),
    before: Callable[[Staging], None] | None = None,
) -> StageResult:
    """Return the result of a stage, built now or found in the store.

    reads are the results whose files write reads, and needs the names of other artifacts that it
    reads; freed ones are restored first. `before` is what can be done while these are being made.
    """
    needs = list(dict.fromkeys([*(result.artifact for result in reads), *needs]))

    def begin(staging: Staging) -> None:
        works()
        write(staging)

    built = run_store().build(key, begin, params=params, inputs=inputs, needs=needs, before=before)
    return StageResult.of(built, key.stage)


def artifacts_with(paths: Iterable[Path | None]) -> list[str]:
    """Return the names of the artifacts that contain these files."""
    root = run_store().root.resolve()
    found = [path.resolve() for path in paths if path is not None]
    inside = [path.relative_to(root).parts for path in found if path.is_relative_to(root)]
    return list(dict.fromkeys(parts[0] for parts in inside if parts[1:] and parts[0][0] != "."))
