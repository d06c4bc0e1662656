"""What a run takes from a Hub, and how: one commit a source, asked once, side by side."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.lifecycle import rebuild
from flows.rebuild.run_summary import RunSummary
from tasks.core.demo.hub import HubAccount, running_hub
from tasks.core.errors import WrongToken
from tasks.core.recipe import Base, Delta, Recipe
from tasks.core.store.run_record import RunRecord
from tasks.core.store.runs import RunRecords
from tests.hub_faults import Faults, Refuse
from tests.recorded import task_runs_of

pytestmark = pytest.mark.usefixtures("prefect")

BASE, DELTA = "kawan/base", "kawan/delta"
WEIGHTS = "/resolve/.*safetensors$"
HANG_S = 120.0


@dataclass
class World:
    """A Hub with a base and a delta, and a recipe that takes both from it."""

    faults: Faults
    hub: HfApi
    recipe: Recipe

    def move(self, repo: str) -> None:
        """Let main of a repository name another commit."""
        self.hub.upload_file(path_or_fileobj=b"# New", path_in_repo="README.md", repo_id=repo)

    def run(self) -> State[RunSummary]:
        return rebuild(self.recipe, until="merge", return_state=True)  # type: ignore[return-value]


@pytest.fixture
def world(
    tmp_path: Path, home: Path, sources: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    faults = Faults()
    tokens = {"hf_owner": HubAccount("kawan")}
    with running_hub(tmp_path / "hub", tokens=tokens, middleware=faults.around) as address:
        monkeypatch.setenv("HF_ENDPOINT", address.url)
        monkeypatch.setenv("HF_TOKEN", address.token)
        hub = HfApi(endpoint=address.url, token=address.token)
        for repo in (BASE, DELTA):
            hub.create_repo(repo)
            hub.upload_folder(repo_id=repo, folder_path=sources / repo.partition("/")[2])
        from_hub = {"base": Base(repo=BASE), "delta": Delta(repo=DELTA), "edit": None}
        yield World(faults, hub, recipe.model_copy(update=from_hub))


def states(state: State[RunSummary]) -> dict[str, bool]:
    return {stage.stage: stage.cached for stage in state.result().stages}


def last_run(home: Path) -> RunRecord:
    return max(RunRecords(home).all(), key=lambda record: record.began_at)


def retried(world: World, state: State[RunSummary]) -> State[RunSummary]:
    """Run the same flow run once more, as Retry in the UI does."""
    with get_client(sync_client=True) as client:
        run_id = state.state_details.flow_run_id
        assert run_id is not None
        client.set_flow_run_state(run_id, AwaitingRetry(), force=True)
        flow_run = client.read_flow_run(run_id)
    parameters = {
        "recipe": world.recipe,
        "from_stage": "plan",
        "until": "merge",
        "override_gate": None,
    }
    return run_flow(rebuild, flow_run, parameters, return_type="state")  # type: ignore[return-value]


def test_a_retry_takes_the_commits_of_the_failed_run_and_a_new_run_those_of_now(
    world: World, home: Path
) -> None:
    world.faults.add(Refuse(403), f"{DELTA}{WEIGHTS}")
    failed = world.run()
    assert isinstance(failed.result(raise_on_failure=False), WrongToken)
    first = last_run(home)
    assert set(first.commits) == {f"{BASE}@main", f"{DELTA}@main"}
    world.move(BASE)
    again = retried(world, failed)
    assert again.is_completed(), again.message
    assert last_run(home).commits == first.commits
    assert last_run(home).began_at > first.began_at
    new = world.run()
    moved = last_run(home).commits
    assert moved[f"{BASE}@main"] != first.commits[f"{BASE}@main"]
    assert moved[f"{DELTA}@main"] == first.commits[f"{DELTA}@main"]
    assert states(new) == {"base": False, "delta": True, "merge": False}


def test_a_run_with_nothing_new_asks_each_source_one_question(world: World) -> None:
    world.run()
    before = len(world.faults.served)
    state = world.run()
    assert set(states(state).values()) == {True}
    asked = [one.path for one in world.faults.served[before:]]
    assert sorted(asked) == [f"/api/models/{repo}/revision/main" for repo in (BASE, DELTA)]
    assert str(state.message).startswith("Nothing new: every stage was cached.")


def test_a_run_with_something_new_asks_for_it_and_its_bytes_only(world: World) -> None:
    world.run()
    world.move(DELTA)
    before = len(world.faults.served)
    world.run()
    of_base = [one.path for one in world.faults.served[before:] if BASE in one.path]
    assert of_base == [f"/api/models/{BASE}/revision/main"]
    asked = [one.path for one in world.faults.served[before:] if "/api/models/" in one.path]
    assert len(asked) == 2


@dataclass
class Meeting:
    """Answers a request only once as many are there as are to meet."""

    of: int
    here: int = 0
    met: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self.here += 1
        if self.here == self.of:
            self.met.set()
        try:
            await asyncio.wait_for(self.met.wait(), HANG_S)
        except TimeoutError:
            await Refuse(403, "nobody came")(app, scope, receive, send)
            return
        await app(scope, receive, send)


def test_base_and_delta_are_downloaded_side_by_side(world: World) -> None:
    meeting = Meeting(of=2)
    for repo in (BASE, DELTA):
        world.faults.add(meeting, f"{repo}{WEIGHTS}")
    state = world.run()
    assert state.is_completed(), state.message
    assert meeting.met.is_set()


@dataclass
class HeldAfter:
    """Sends the first bytes of an answer, and no more."""

    n_bytes: int
    sent: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        async def holding(message: Message) -> None:
            if message["type"] == "http.response.body":
                await send({**message, "body": message["body"][: self.n_bytes], "more_body": True})
                self.sent.set()
                while (await receive())["type"] != "http.disconnect":
                    pass
                raise ConnectionError("the client has gone")
            await send(message)

        await app(scope, receive, holding)


@dataclass
class After:
    """Answers with a fault once an event has come."""

    event: threading.Event
    fault: Refuse

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        while not self.event.is_set():
            await asyncio.sleep(0.01)
        await self.fault(app, scope, receive, send)


@pytest.mark.slow
def test_a_download_that_fails_leaves_the_one_beside_it_to_be_gone_on_with(
    world: World, home: Path
) -> None:
    held = HeldAfter(1000)
    world.faults.add(held, f"{BASE}{WEIGHTS}")
    world.faults.add(After(held.sent, Refuse(403, "no more")), f"{DELTA}{WEIGHTS}")
    state = world.run()
    error = state.result(raise_on_failure=False)
    assert isinstance(error, WrongToken), error
    assert DELTA in str(error.where)
    parts = home.glob("store/.staging/download-*/*.safetensors.part")
    assert 1000 in [part.stat().st_size for part in parts]
    assert world.run().is_completed()
    assert "bytes=1000-" in [one.range for one in world.faults.requests(f"{BASE}{WEIGHTS}")]


def test_both_downloads_are_shown_with_a_name_of_their_own(world: World) -> None:
    state = world.run()
    expected = {"download base base", "download delta delta"}
    assert expected <= task_runs_of(state, *expected).keys()
