"""What is shown of a run reaches its page, and an API that is away fails and delays nothing."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import Artifact, State
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks import progress
from tasks.outbox import flush, show_markdown
from tasks.progress import StageProgress
from tasks.runtime import stage_task
from tests.integration.relay import Relay
from tests.recorded import artifacts_of, artifacts_of_run, pages_of

pytestmark = pytest.mark.usefixtures("prefect", "home")

STEPS = 20
BLOCKED_S = 30.0
"""Far more than the stages below take, and less than Prefect's own client tries before it fails."""


@pytest.fixture(autouse=True)
def every_report_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REPORT_EVERY_S", 0.0)


@pytest.fixture
def relay(prefect: None) -> Iterator[Relay]:
    """The API of the tests behind a relay, for everything that runs in this test.

    It stays to the end of the session, when Prefect's own threads send what they have left.
    """
    server = urlsplit(PREFECT_API_URL.value())
    assert server.port is not None
    relay = Relay(server.port)
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{relay.port}/api"}):
        yield relay


def is_done(shown: list[Artifact]) -> bool:
    """Return whether the newest state of the progress is there."""
    return 100.0 in [each.data for each in shown]


def run_stage(work: Callable[[], None]) -> State[object]:
    """Run the work as the only stage of a flow, and return how the flow ended."""

    @stage_task("work")
    def stage() -> None:
        work()

    @flow
    def run() -> None:
        stage.submit().result()

    return run(return_state=True)


def test_progress_of_a_pool_thread_hangs_on_the_task_that_made_it() -> None:
    def work() -> None:
        report = StageProgress("work", "steps")
        with ThreadPoolExecutor(2) as pool, warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            for done in range(3):
                pool.submit(report, done, 2).result()

    (found,) = artifacts_of(run_stage(work), is_done)
    assert found.task_run_id is not None
    assert (found.type, found.data) == ("progress", 100.0)


def test_a_stage_ends_once_its_page_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a command that ends with it would leave the page behind."""
    flushed: list[None] = []
    monkeypatch.setattr(progress, "flush", lambda: flushed.append(flush(BLOCKED_S)))

    def work() -> None:
        report = StageProgress("work", "steps")
        report(0, 2)
        report(2, 2)

    state = run_stage(work)
    assert len(flushed) == 1
    (found,) = artifacts_of(state, lambda _: True)  # one look
    assert found.data == 100.0


@pytest.mark.parametrize("away_s", [0.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_an_api_that_is_away_in_the_middle_of_a_stage_fails_and_delays_nothing(
    relay: Relay, caplog: pytest.LogCaptureFixture, away_s: float
) -> None:
    took = [0.0]

    def work() -> None:
        report = StageProgress("work", "steps")
        report(0, STEPS)
        report(1, STEPS)
        flush()
        relay.away()
        began = time.monotonic()
        for done in range(2, STEPS):
            report(done, STEPS)
        show_markdown("# Done", key="done", description="What was done")
        flush()
        took[0] = time.monotonic() - began
        time.sleep(away_s)
        relay.back()
        report(STEPS, STEPS)

    state = run_stage(work)
    flush(BLOCKED_S)
    assert state.is_completed()
    assert took[0] < BLOCKED_S
    shown = artifacts_of(state, lambda shown: is_done(shown) and len(shown) == 2)
    found = {each.type: each for each in shown}
    assert found["progress"].data == 100.0
    assert found["markdown"].data == "# Done"
    behind = [each for each in caplog.records if "the run page is behind" in each.getMessage()]
    assert len(behind) == 1


def test_an_artifact_that_the_api_no_longer_knows_is_made_again() -> None:
    def work() -> None:
        report = StageProgress("work", "steps")
        report(0, 2)
        report(1, 2)
        flush()
        with get_client(sync_client=True) as client:
            own = artifacts_of_run(UUID(str(runtime.flow_run.id)))
            for each in client.read_artifacts(artifact_filter=own):
                client.delete_artifact(UUID(str(each.id)))
        report(2, 2)

    (found,) = artifacts_of(run_stage(work), is_done)
    assert found.data == 100.0


def test_an_artifact_that_prefect_refuses_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        show_markdown("text", key="Not A Key!", description="refused")
        show_markdown("text", key="a-key", description="taken")

    state = run_stage(work)
    assert state.is_completed()
    assert list(pages_of(state, "a-key")) == ["a-key"]
    assert "refuses an artifact" in caplog.text


def test_an_api_that_does_not_answer_holds_a_stage_up_no_longer_than_is_allowed(
    relay: Relay,
) -> None:
    took = [0.0]

    def work() -> None:
        relay.hang()
        began = time.monotonic()
        show_markdown("text", key="a-key", description="never sent")
        flush(0.2)
        took[0] = time.monotonic() - began
        relay.answer()

    assert run_stage(work).is_completed()
    assert took[0] < BLOCKED_S


def test_outside_of_a_run_nothing_is_sent() -> None:
    show_markdown("text", key="nobodys", description="of no run")
    StageProgress("work", "steps")(1, 2)
    flush()
    with get_client(sync_client=True) as client:
        assert "nobodys" not in {each.key for each in client.read_artifacts()}


def test_a_stage_that_says_nothing_shows_a_sign_of_life(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SILENT_S", 0.05)
    caplog.set_level(logging.INFO)

    def work() -> None:
        report = StageProgress("work", "steps")
        report(0, 4)
        report(1, 4)
        until = time.monotonic() + BLOCKED_S
        while "still working" not in caplog.text and time.monotonic() < until:
            time.sleep(0.01)

    run_stage(work)
    lines = [r.getMessage() for r in caplog.records if getattr(r, "stage_event", None)]
    assert lines[0] == "begins"
    assert any("still working" in line and "; 25%, 1 of 4 steps" in line for line in lines)
    assert lines[-1] == "done"
