import errno
import logging
import os
import re
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State

from tasks import progress, runtime
from tasks.core.errors import (
    DeltaMismatch,
    DiskFull,
    HubUnavailable,
    KawanUsahaError,
    SystemRefused,
    UsageError,
)
from tasks.core.files import locks
from tasks.core.keys import stage_key
from tasks.core.store import RunStore, Staging, Store
from tasks.core.store.runs import RunRecords
from tasks.runtime import build_stage, explained_failure, run, running, stage_task
from tasks.stage_result import StageResult
from tests.holding import holding
from tests.recorded import artifacts_of

pytestmark = pytest.mark.usefixtures("prefect", "home")
KEY = stage_key("toy", 1, {"size": 7})


def weights(staging: Staging) -> None:
    (staging.path / "a.bin").write_bytes(b"weights")


@stage_task("toy")
def toy() -> StageResult:
    return build_stage(KEY, weights, {"size": 7}, {})


def test_second_run_is_cached_and_gives_the_same_artifact() -> None:
    @flow
    def twice() -> list[tuple[str | None, StageResult]]:
        futures = [toy.submit() for _ in range(1)]
        futures[0].wait()
        futures.append(toy.submit())
        return [(f.state.name, f.result()) for f in futures if f.wait() is None]

    (first, made), (second, reused) = twice()
    assert (first, second) == ("Completed", "Cached")
    assert (made.cached, reused.cached) == (False, True)
    assert made.digest == reused.digest
    assert made.path == reused.path


def test_deleted_artifact_is_made_again(home: Path) -> None:
    @flow
    def once() -> str | None:
        future = toy.submit()
        future.wait()
        return future.state.name

    assert once() == "Completed"
    for path in (home / "store").glob("toy-*"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    assert once() == "Completed"


def test_waiting_for_another_run_is_said_in_the_log_of_this_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_SAY_AFTER_S", 0.0)
    said: list[logging.LogRecord] = []

    @flow
    def once() -> StageResult:
        return run(toy)

    with holding(home / "store" / ".locks" / str(KEY), "rebuild other: toy") as other:

        class Hears(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if record.getMessage().startswith("Waiting for"):
                    said.append(record)
                    other.kill()

        handler = Hears()
        logging.getLogger("prefect.task_runs").addHandler(handler)
        try:
            once()
        finally:
            logging.getLogger("prefect.task_runs").removeHandler(handler)
    assert "held by rebuild other: toy (pid " in said[0].getMessage()
    assert said[0].__dict__["task_run_name"] == "toy"


def test_a_run_holds_its_locks_under_its_own_name(home: Path) -> None:
    shown: list[locks.Holder] = []

    def write(staging: Staging) -> None:
        weights(staging)
        shown.extend(locks.holders_in(home / "store" / ".locks"))

    @stage_task("toy")
    def look() -> StageResult:
        return build_stage(KEY, write, {"size": 7}, {})

    @flow
    def once() -> StageResult:
        return run(look)

    with running(RunStore(home, RunRecords(home).start("demo"))):
        once()
    assert [holder.what for holder in shown] == ["rebuild demo: toy"]


def test_what_the_system_refuses_in_a_stage_is_the_advice_of_the_run(home: Path) -> None:
    @stage_task("reads")
    def reads() -> StageResult:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/model")

    @flow
    def once() -> object:
        try:
            return run(reads)
        except Exception as error:  # noqa: BLE001 - as in `rebuild`
            return explained_failure(error)

    state = once(return_state=True)
    error = state.result(raise_on_failure=False)
    assert isinstance(error, SystemRefused)
    assert error.where == "/data/model"
    assert "next step:" in (state.message or "")
    assert isinstance(error.__cause__, PermissionError)


def test_a_fault_in_a_stage_is_noted_with_its_stage_and_stays_what_it_is(home: Path) -> None:
    @stage_task("divides")
    def divides() -> StageResult:
        raise ZeroDivisionError

    @flow
    def once() -> object:
        try:
            return run(divides)
        except Exception as error:  # noqa: BLE001 - as in `rebuild`
            return explained_failure(error)

    with pytest.raises(ZeroDivisionError) as raised:
        once()
    assert "Stage: divides." in raised.value.__notes__


def test_full_disk_in_a_stage_is_answered_with_what_can_go(home: Path) -> None:
    stale = Store(home).build(stage_key("merge", 1, {}), weights).artifact

    def enospc(_: Staging) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @stage_task("full")
    def full() -> StageResult:
        return build_stage(KEY, enospc, {"size": 7}, {})

    @flow
    def run() -> None:
        full.submit().result()

    with pytest.raises(DiskFull, match=rf"store prune` frees (.|\n)*{stale.key}"):
        run()


def test_stage_of_a_run_is_recorded_and_a_stage_outside_of_one_is_not(home: Path) -> None:
    @flow
    def once() -> None:
        toy.submit().result()

    once()
    assert RunRecords(home).all() == []
    with running(RunStore(home, RunRecords(home).start("demo"))):
        once()
    assert RunRecords(home).unfinished()[0].artifacts == (str(KEY),)


@pytest.mark.parametrize(
    ("error", "calls"), [(DeltaMismatch, 1), (HubUnavailable, 4), (KeyError, 1)]
)
def test_only_what_may_pass_by_itself_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], calls: int
) -> None:
    monkeypatch.setattr(runtime, "RETRY_DELAYS_S", (0.0, 0.0, 0.0))
    seen: list[int] = []

    @stage_task("failing")
    def failing() -> None:
        seen.append(1)
        raise error("no")

    @flow
    def run() -> None:
        failing.submit().result()

    with pytest.raises(error):
        run()
    assert len(seen) == calls


def test_failed_flow_shows_the_advice_as_its_state() -> None:
    @flow
    def run() -> State[object]:
        try:
            raise DeltaMismatch("w differs.", next_step="Check recipe.base.revision.")
        except KawanUsahaError as error:
            return explained_failure(error)

    state = run(return_state=True)
    assert state.is_failed()
    assert "next step: Check recipe.base.revision." in (state.message or "")
    with get_client(sync_client=True) as client:
        assert state.state_details.flow_run_id is not None
        stored = client.read_flow_run(state.state_details.flow_run_id).state
    assert stored is not None
    assert "Check recipe.base.revision." in (stored.message or "")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("", r"work: 50%, 1 of 2 steps, .* left"),
        ("step 1/2, loss 3.2, 120 tokens/s", "work: step 1/2, loss 3.2, 120 tokens/s"),
    ],
)
def test_progress_is_an_artifact_with_the_stages_own_words(
    monkeypatch: pytest.MonkeyPatch, said: str, shown: str
) -> None:
    monkeypatch.setattr(progress, "REPORT_EVERY_S", 0.0)

    @flow
    def work() -> None:
        report = progress.StageProgress("work", "steps", log=False)
        report(0, 2)
        report.text = said
        report(1, 2)

    (found,) = artifacts_of(work(return_state=True), lambda shown: 50.0 in [a.data for a in shown])
    assert found.type == "progress"
    assert found.data == 50.0
    assert re.fullmatch(shown, str(found.description))


def test_engine_adds_no_traceback_to_an_explained_failure_and_keeps_those_of_bugs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @flow
    def failing() -> State[KawanUsahaError]:
        return explained_failure(UsageError("It is wrong."))

    failing(return_state=True)
    told = logging.getLogger("prefect.flow_runs")
    told.addHandler(caplog.handler)
    try:
        for error in (UsageError("It is wrong."), ValueError("a bug")):
            told.error("Engine execution exited with unexpected exception", exc_info=error)
    finally:
        told.removeHandler(caplog.handler)
    assert {each.exc_info[0] for each in caplog.records if each.exc_info} == {ValueError}
