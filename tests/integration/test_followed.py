"""What a stage took, and where its lines are to be found."""

import sys
import time
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import State

from flows.terminal.run_log import run_shown
from tasks import runtime
from tasks.core.errors import HubUnavailable
from tasks.core.keys import stage_key
from tasks.core.process import run_child
from tasks.core.store import RunStore, Staging
from tasks.core.store.runs import RunRecords
from tasks.progress import log_line, output_log
from tasks.runtime import build_stage, run, running, stage_task
from tasks.stage_result import StageResult

pytestmark = pytest.mark.usefixtures("prefect", "home")

MB = 10**6
TOO_LATE_S = 300.0
HOLDS = f"import time; held = b'x' * {200 * MB}; print('held'); time.sleep(6)"


@stage_task("heavy")
def heavy() -> StageResult:
    """Make an artifact with a program that needs 200 MB."""

    def write(staging: Staging) -> None:
        run_child([sys.executable, "-c", HOLDS], log=output_log("heavy"))
        (staging.path / "made").touch()

    return build_stage(stage_key("heavy", 1, {}, {}), write, {}, {})


def lines_of(state: State[object], wanted: str) -> list[str]:
    """Return what the run's page shows, once the wanted line has arrived."""
    assert state.state_details.flow_run_id is not None
    ours = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    until = time.monotonic() + TOO_LATE_S
    lines: list[str] = []
    with get_client(sync_client=True) as client:
        while wanted not in lines and time.monotonic() < until:
            lines = [log.message for log in client.read_logs(log_filter=ours)]
            time.sleep(0.1)
    return lines


def test_a_stage_shows_the_peak_of_its_program_and_keeps_its_output_by_its_recipe(
    home: Path,
) -> None:
    @flow(name="with-a-heavy-stage", flow_run_name="recipes/mine.yaml")
    def work() -> StageResult:
        with running(RunStore(home, RunRecords(home).start("demo"))):
            return run(heavy)

    made = work()
    assert 200 * MB <= made.peak_memory_bytes < 300 * MB
    (log,) = (home / "logs" / "demo").glob("heavy-*.log")
    assert "held" in log.read_text().splitlines()


@pytest.mark.parametrize("quiet", [False, True])
def test_the_page_of_a_run_has_its_lines_whatever_the_terminal_shows(
    quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    @stage_task("speaking")
    def speaking() -> None:
        log_line("half of it is done")

    @flow
    def work() -> None:
        run(speaking)

    with run_shown("demo", quiet=quiet):
        state = work(return_state=True)
    lines = lines_of(state, "done")
    assert [line for line in lines if not line.startswith(("Beginning", "Finished", "View"))] == [
        "begins",
        "half of it is done",
        "done",
    ]
    printed = capsys.readouterr().err
    assert ("half of it is done" in printed) is not quiet
    assert "Finished in state" not in printed


def test_a_stage_that_is_tried_again_says_why_and_when(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime, "RETRY_DELAYS_S", (0.0,))
    tries: list[int] = []

    @stage_task("trying")
    def trying() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise HubUnavailable("The Hub does not answer.", next_step="Wait.")

    @flow
    def work() -> None:
        run(trying)

    with run_shown("demo", quiet=False):
        work()
    printed = capsys.readouterr().err
    assert "The Hub does not answer. Trying again in 0 s." in printed
    assert "failed after" in printed
    assert printed.count("begins") == 2
