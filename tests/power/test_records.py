"""Records after a power cut: what a run has released, what serves, what was collected."""

from pathlib import Path

import pytest

from tasks.core.collected.privacy.forgetting import forget
from tasks.core.collected.review.reading import read_collected
from tasks.core.collected.storage.records import line_of
from tasks.core.collected.storage.writing import append
from tasks.core.files.durable import fsync_directory, fsync_file
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.files import (
    read_deployment,
    read_routes,
    used_builds,
    write_record,
    write_routes,
)
from tasks.core.serving.state.routes import Routes
from tasks.core.store import RemoteStore
from tasks.core.store.releases import share_release, take_releases
from tasks.core.store.runs import RunRecords
from tests.collected import BUDI, SITI, an_answer, write
from tests.deployments import deployment
from tests.power.recorder import recorded


def test_the_record_of_a_run_is_the_old_one_or_the_new_one(disk, survey, is_needed):
    def look(home: Path, promised: frozenset[str]) -> None:
        records = RunRecords(home)
        assert len(records.all()) == len(list(home.glob("runs/*.json"))), "one that is torn"
        if "begun" in promised:
            assert records.all()[0].artifacts == ("fuse-one",)
        if "released" in promised:
            assert records.releases("demo") == ["fuse-one"]
        if "finished" in promised:
            assert records.last(1)

    with recorded(disk) as recording:
        run = RunRecords(disk).start("demo")
        run.add("fuse-one")
        recording.promise("begun")
        run.release("fuse-one")
        recording.promise("begun", "released")
        run.finish()
        recording.promise("begun", "released", "finished")
    assert survey(recording, look).wrong == ()
    for sync in (".", "runs", "runs/.tmp-*"):
        assert is_needed(recording, look, sync), sync


def test_a_release_that_was_told_is_known_to_the_other_machines(disk, survey, is_needed, tmp_path):
    def look(shared: Path, promised: frozenset[str]) -> None:
        others = RunRecords(tmp_path / f"other-{shared.stat().st_ino}")
        take_releases(RemoteStore.open(f"file://{shared}"), others, "demo")
        if promised:
            assert others.releases("demo") == ["fuse-one"]
        for file in others.root.glob("*"):
            file.unlink()

    run = RunRecords(tmp_path).start("demo")
    run.release("fuse-one")
    with recorded(disk) as recording:
        share_release(RemoteStore.open(f"file://{disk}"), run, RunRecords(tmp_path))
        recording.promise("told")
    assert survey(recording, look).wrong == ()
    for sync in (".", "releases", "releases/demo", "*/.tmp-*"):
        assert is_needed(recording, look, sync), sync


@pytest.fixture
def switched(disk):
    """A deployment takes over from another one, in the other slot."""
    state = StateDirectory(disk / "serving" / "chat")
    first = deployment(state, build="one", model=Path("/models/one"))
    second = deployment(state, build="two", model=Path("/models/two"), slot="green")
    with recorded(disk) as recording:
        for record in (first, second):
            state.slot(record.slot).prepare(record.model)
            write_record(state, record)
            write_routes(state, Routes(route=record.route))
            recording.promise(record.build)
        state.slot("blue").retire()
    return recording


def _serves(root: Path, promised: frozenset[str]) -> None:
    """Raise unless the route leads to a record, and the model of the record is protected."""
    state = StateDirectory(root / "serving" / "chat")
    serves, routes = read_deployment(state), read_routes(state)
    if routes is not None:
        assert routes.route is not None
        assert serves is not None, "a route without a record"
        assert serves.build == routes.route.build
        assert state.slot(serves.slot).model.readlink() == serves.model
        assert serves.build in used_builds(root)
    builds = ("two",) if "two" in promised else ("one", "two") if promised else (None, "one")
    assert (serves and serves.build) in builds


def test_what_serves_is_the_old_one_or_the_new_one_and_its_model_is_kept(switched, survey):
    assert survey(switched, _serves).wrong == ()


@pytest.mark.parametrize(
    "sync",
    [
        pytest.param("*/green/.tmp-*", id="the bytes of the record"),
        pytest.param("*/chat/.tmp-*", id="the bytes of the route"),
        pytest.param("*/green", id="the names in the slot"),
        pytest.param("*/chat", id="the names of slot and route"),
        pytest.param(".", id="the name of them all"),
    ],
)
def test_each_sync_of_a_deployment_is_needed(switched, is_needed, sync):
    assert is_needed(switched, _serves, sync)


DAY = "2026-11-30.jsonl"


def _ids(directory: Path) -> set[str]:
    return {each.answer.id for each in read_collected(directory, lambda _: None)}


def test_what_was_collected_stays_and_half_a_line_spoils_no_other(disk, survey, is_needed):
    def look(root: Path, promised: frozenset[str]) -> None:
        append(root / DAY, line_of(an_answer("after")))
        assert {"after", *promised} <= _ids(root)

    with recorded(disk) as recording:
        append(disk / DAY, line_of(an_answer("first")))
        recording.promise("first")
        append(disk / DAY, line_of(an_answer("second")))
        recording.promise("first", "second")
    assert survey(recording, look).wrong == ()
    for sync in (".", DAY):
        assert is_needed(recording, look, sync), sync


def test_what_was_deleted_of_a_person_stays_away_and_all_else_is_kept(disk, survey, is_needed):
    def look(root: Path, promised: frozenset[str]) -> None:
        assert {"budi-0", "budi-1"} <= _ids(root)
        if "forgotten" in promised:
            assert _ids(root) == {"budi-0", "budi-1"}

    for at, name in enumerate((DAY, "2026-11-29.jsonl")):
        write(disk / name, an_answer(f"siti-{at}"), an_answer(f"budi-{at}", person=BUDI))
        fsync_file(disk / name)
    fsync_directory(disk)
    with recorded(disk) as recording:
        forget(disk, SITI)
        recording.promise("forgotten")
    assert survey(recording, look).wrong == ()
    for sync in (".", ".tmp-*"):
        assert is_needed(recording, look, sync), sync
