"""A rebuild merges what has come of base and delta while the rest is still on its way."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from prefect.client.schemas.objects import TaskRun

from flows.lifecycle import rebuild
from flows.rebuild.run_summary import RunSummary
from tasks.core.demo.hub import HubAccount
from tasks.core.demo.hub.server import running_hub
from tasks.core.hub.download.merge_ahead import merge_while_downloading
from tasks.core.hub.download.sources import Sources
from tasks.core.recipe import Base, Delta, Recipe
from tasks.core.store import Store
from tasks.core.weights.journal import DIRECTORY
from tasks.core.weights.merge import merge_delta
from tests.hub_faults import Faults
from tests.recorded import task_runs_of
from tests.unit.hub.download.ahead_world import BASE, DELTA, SHARD_BYTES
from tests.unit.hub.holding import Whole, publish_pair

pytestmark = pytest.mark.usefixtures("prefect")

TOKEN = "hf_owner"
LAST = "base/resolve.*00004-of-00004"


@pytest.fixture
def faults(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A Hub that holds both, and results in shards so small that there are many."""
    for function in (merge_delta, merge_while_downloading):
        monkeypatch.setitem(function.__kwdefaults__, "max_shard_bytes", SHARD_BYTES)
    faults = Faults()
    with running_hub(
        tmp_path / "hub", tokens={TOKEN: HubAccount("warung")}, middleware=faults.around
    ) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        publish_pair(HfApi(endpoint=hub.url, token=TOKEN), tmp_path, "many", "many")
        yield faults


@pytest.fixture
def merged(recipe: Recipe) -> Recipe:
    """The recipe of both, which is told how to keep its inputs by the test."""
    sources = {"base": Base(repo=BASE), "delta": Delta(repo=DELTA), "edit": None}
    return recipe.model_copy(update=sources)


def run(recipe: Recipe) -> tuple[RunSummary, dict[str, TaskRun]]:
    state = rebuild(recipe, until="merge", return_state=True)  # type: ignore[call-overload]
    report = state.result()
    assert isinstance(report, RunSummary)
    return report, task_runs_of(state, "download base", "merge")


@contextmanager
def held_until_shards_are_finished(faults: Faults, home: Path) -> Iterator[list[int]]:
    """Hold back the base's last file; yield how many shards were finished when it was let go."""
    held, finished, over = Whole(held_after=0), [0], threading.Event()
    faults.add(held, LAST, times=99)

    def watch() -> None:
        while not over.wait(0.02):
            finished[0] = len(list(home.glob(f"store/.staging/merge-*/{DIRECTORY}/*.json")))
            if finished[0] >= 3:
                held.released.set()
                return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield finished
    finally:
        over.set()
        held.released.set()
        watching.join()


def assert_as_one_after_the_other(report: RunSummary, out: Path) -> None:
    base, delta, merged = report.stages
    expected = merge_delta(base.path, delta.path, out).files
    manifest = next(
        a for a in Store(merged.path.parent.parent).artifacts() if a.path == merged.path
    )
    beside = {"tokenizer_config.json", "chat_template.jinja", "conversation_template.json"}
    found = {n: d for n, d in manifest.manifest.files.items() if n not in beside}
    assert found == {n: d for n, d in expected.items() if n not in beside}
    assert manifest.manifest.inputs == {"base": base.digest, "delta": delta.digest}


def test_shards_are_merged_before_the_downloads_end_and_each_is_a_task(
    faults: Faults, home: Path, merged: Recipe, tmp_path: Path
) -> None:
    with held_until_shards_are_finished(faults, home) as finished:
        report, tasks = run(merged)
    assert finished[0] >= 3
    assert [stage.stage for stage in report.stages] == ["base", "delta", "merge"]
    assert_as_one_after_the_other(report, tmp_path / "expected")
    merging, fetching = tasks["merge base + delta"], tasks["download base base"]
    assert merging.start_time is not None
    assert fetching.end_time is not None
    assert merging.start_time < fetching.end_time
    again, _ = run(merged)
    assert [stage.cached for stage in again.stages] == [True] * 3
    assert [stage.digest for stage in again.stages] == [stage.digest for stage in report.stages]


def test_a_source_that_turns_out_otherwise_is_merged_as_it_is(
    faults: Faults, home: Path, merged: Recipe, tmp_path: Path
) -> None:
    staging = home / "store" / ".staging" / str(Sources.of(merged, home).base.key)
    staging.mkdir(parents=True)
    (staging / "stray.txt").write_text("what the Hub has not announced")
    report, _ = run(merged)
    assert_as_one_after_the_other(report, tmp_path / "expected")


def test_the_delta_goes_once_it_is_merged_and_is_not_fetched_for_a_run_with_nothing_new(
    faults: Faults, home: Path, merged: Recipe
) -> None:
    lean = merged.model_copy(update={"keep": "released"})
    with held_until_shards_are_finished(faults, home):
        report, _ = run(lean)
    assert Store(home).freed(report.stages[1].artifact) is not None
    assert not report.stages[1].path.exists()
    asked = len(faults.served)
    again, _ = run(lean)
    assert [stage.cached for stage in again.stages] == [True] * 3
    assert not [one for one in faults.served[asked:] if "resolve" in one.path]
