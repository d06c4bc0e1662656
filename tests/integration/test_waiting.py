"""A stage that waits for another run says so, in its lines and in the state of its task."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext

from tasks.core.files import locks
from tasks.core.keys import stage_key
from tasks.core.store import RunStore, Staging
from tasks.core.store.runs import RunRecords
from tasks.runtime import build_stage, run, running, stage_task
from tasks.stage_result import StageResult
from tasks.task_states import waits
from tests.holding import holding

pytestmark = pytest.mark.usefixtures("prefect")
GIVE_UP_S = 300
KEY = stage_key("merge", 1, {}, {})


@stage_task("merge")
def stage() -> StageResult:
    def write(staging: Staging) -> None:
        (staging.path / "model").write_text("merged")

    return build_stage(KEY, write, {}, {})


def states(client: SyncPrefectClient, flow_run: object) -> list[tuple[str, str]]:
    """Return name and message of each state that the only task of a flow run has had."""
    ours = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))  # type: ignore[list-item]
    tasks = client.read_task_runs(flow_run_filter=ours)
    asked = [client.read_task_run_states(each.id) for each in tasks]
    return [(s.name or "", s.message or "") for found in asked for s in _in_order(found)]


def _in_order(found: list[State[object]]) -> list[State[object]]:
    return sorted(found, key=lambda state: state.timestamp)


@contextmanager
def let_go_once_it_waits(home: Path, flow_run: object) -> Iterator[None]:
    """Hold the stage's lock for another run, until the server has noted that the task waits."""
    with holding(home / "store/.locks" / str(KEY), "rebuild other: merge") as holder:

        def let_go() -> None:
            give_up = time.monotonic() + GIVE_UP_S
            with get_client(sync_client=True) as client:
                while time.monotonic() < give_up:
                    if "Waiting" in dict(states(client, flow_run)):
                        break
                    time.sleep(0.2)
            holder.kill()

        thread = threading.Thread(target=let_go)
        thread.start()
        yield
        thread.join()


@flow
def waiting(home: Path) -> StageResult:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    store = RunStore(home, RunRecords(home).start("demo"), waits=waits)
    with let_go_once_it_waits(home, context.flow_run.id), running(store):
        return run(stage)


def test_stage_that_waits_for_another_run_names_it_in_the_state_of_its_task(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "_SAY_AFTER_S", 0.0)
    state = waiting(home, return_state=True)
    assert state.is_completed()
    give_up = time.monotonic() + GIVE_UP_S
    with get_client(sync_client=True) as client:
        while "Completed" not in dict(found := states(client, state.state_details.flow_run_id)):
            assert time.monotonic() < give_up
            time.sleep(0.2)
    names = [name for name, _ in found]
    assert names[names.index("Waiting") :] == ["Waiting", "Running", "Completed"]
    assert f"Waiting for {KEY}, held by rebuild other: merge" in dict(found)["Waiting"]
    assert f"Waiting for {KEY}" in caplog.text
