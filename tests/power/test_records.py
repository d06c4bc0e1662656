"""Records after a power cut: what a run has released, what serves, what was judged."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.core.serving.page.feedback import Judgement, keep
from tasks.core.serving.routes import Routes
from tasks.core.serving.state import (
    StateDirectory,
    read_deployment,
    read_routes,
    used_builds,
    write_record,
    write_routes,
)
from tasks.core.store import Remote
from tasks.core.store.releases import share_release, take_releases
from tasks.core.store.runs import RunRecords
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
        take_releases(Remote.open(f"file://{shared}"), others, "demo")
        if promised:
            assert others.releases("demo") == ["fuse-one"]
        for file in others.root.glob("*"):
            file.unlink()

    run = RunRecords(tmp_path).start("demo")
    run.release("fuse-one")
    with recorded(disk) as recording:
        share_release(Remote.open(f"file://{disk}"), run, RunRecords(tmp_path))
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


def test_a_judgement_stays_and_half_a_line_spoils_no_other(disk, survey, is_needed):
    def judged(answer: str) -> Judgement:
        return Judgement(
            time=datetime(2026, 11, 30, tzinfo=UTC),
            model="kawan-usaha",
            build=None,
            conversation=[],
            answer=answer,
            verdict=None,
            correction=None,
        )

    def look(root: Path, promised: frozenset[str]) -> None:
        keep(root / "feedback.jsonl", judged("after"))
        lines = (root / "feedback.jsonl").read_bytes().splitlines()
        answers = [answer for line in lines if (answer := _answer(line)) is not None]
        assert {"after", *promised} <= {*answers}

    with recorded(disk) as recording:
        keep(disk / "feedback.jsonl", judged("first"))
        recording.promise("first")
        keep(disk / "feedback.jsonl", judged("second"))
        recording.promise("first", "second")
    assert survey(recording, look).wrong == ()
    for sync in (".", "feedback.jsonl"):
        assert is_needed(recording, look, sync), sync


def _answer(line: bytes) -> str | None:
    try:
        return str(json.loads(line)["answer"])
    except ValueError:
        return None
