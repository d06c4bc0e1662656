"""A clock that is set back by an hour, or was a year ahead: what came last is still the last."""

import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx2
import psutil
import pytest

from tasks.core.files.digests import sha256_of, sha256_of_state
from tasks.core.hub.errors import waiting_time_s
from tasks.core.keys import stage_key
from tasks.core.process.log import KEPT_LOGS, new_log
from tasks.core.pruning import prune_store
from tasks.core.serving.observe import status
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.files import read_previous, started_before, write_routes
from tasks.core.serving.state.routes import Routes
from tasks.core.store import Staging, Store
from tasks.core.store.run_record import OpenRun
from tasks.core.store.runs import RunRecords
from tasks.core.system.clock import now_after
from tasks.core.training.rung_records import RungRecords
from tests.deployments import deployment, put_on_record

HOUR, YEAR = timedelta(hours=1), timedelta(days=365)


class Clock(datetime):
    """The time of this machine, moved."""

    by = timedelta()

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return datetime.now(tz) + cls.by  # type: ignore[arg-type]


@pytest.fixture(params=[(timedelta(), -HOUR), (YEAR, timedelta())], ids=["set back", "was ahead"])
def jump(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> timedelta:
    """How far the clock is moved from now on; before that it showed the other time."""
    before, after = request.param
    monkeypatch.setattr("tasks.core.system.clock.datetime", Clock)
    monkeypatch.setattr(Clock, "by", before)
    found: timedelta = after
    return found


def build(home: Path, stage: str) -> str:
    def write(staging: Staging) -> None:
        (staging.path / "weights").write_text(stage)

    return str(Store(home).build(stage_key(stage, 1, {}), write).artifact.key)


def start(home: Path, *artifacts: str) -> OpenRun:
    run = RunRecords(home).start("demo")
    for artifact in artifacts:
        run.add(artifact)
    return run


def test_the_last_release_is_the_last_one(
    jump: timedelta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start(tmp_path, "old").release("old")
    monkeypatch.setattr(Clock, "by", jump)
    start(tmp_path, "new").release("new")
    assert RunRecords(tmp_path).releases("demo") == ["new", "old"]
    assert RunRecords(tmp_path).release_before("demo", "new") == "old"


def test_a_clock_that_is_set_back_in_the_middle_of_a_run_leaves_it_the_last_one(
    jump: timedelta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = start(tmp_path, "old")
    other.release("old")
    other.finish()
    run = start(tmp_path, "new")
    monkeypatch.setattr(Clock, "by", jump)
    run.release("new")
    run.finish()
    (newest, _) = RunRecords(tmp_path).all()
    assert newest.artifacts == ("new",)
    assert RunRecords(tmp_path).releases("demo")[0] == "new"


def test_prune_keeps_what_the_last_run_has_made(
    jump: timedelta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = build(tmp_path, "merge")
    start(tmp_path, first).finish()
    monkeypatch.setattr(Clock, "by", jump)
    last = build(tmp_path, "fuse")
    start(tmp_path, last).finish()
    assert [item.path.name for item in prune_store(tmp_path, keep_runs=1).items] == [first]


def test_a_run_that_failed_before_is_superseded_by_one_that_finished_since(
    jump: timedelta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start(tmp_path, "half")
    monkeypatch.setattr(Clock, "by", jump)
    start(tmp_path, "whole").finish()
    assert RunRecords(tmp_path).unfinished() == []


def test_the_commits_of_the_last_run_are_those_of_the_last(
    jump: timedelta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    RunRecords(tmp_path).start("demo", commits={"base": "a"})
    monkeypatch.setattr(Clock, "by", jump)
    RunRecords(tmp_path).start("demo", commits={"base": "b"})
    assert RunRecords(tmp_path).last_commit("base") == "b"


def test_what_was_deployed_last_served_last(
    jump: timedelta, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = StateDirectory(tmp_path / "serving" / "chat")
    for slot, by in (("blue", None), ("green", jump)):
        if by is not None:
            monkeypatch.setattr(Clock, "by", by)
        started_at = now_after(started_before(state))
        put_on_record(state, deployment(state, slot=slot, build=slot, started_at=started_at))
    write_routes(state, Routes())
    previous = read_previous(state)
    assert previous is not None
    assert previous.build == "green"


def test_logs_of_a_time_to_come_go_before_those_of_now(tmp_path: Path) -> None:
    for minute in range(KEPT_LOGS):
        (tmp_path / f"merge-20990101-00{minute:02}00.log").touch()
    now = new_log(tmp_path, "merge")
    now.touch()
    for _ in range(KEPT_LOGS):
        assert new_log(tmp_path, "merge").name[:10] == now.name[:10]
        assert now.exists()


def test_a_process_that_began_after_now_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    own = psutil.Process()
    monkeypatch.setattr(status.time, "time", lambda: own.create_time() - 3600)
    found = status._process("engine", [own], None, None)
    assert (found.state, found.pid, found.uptime_s) == ("running", os.getpid(), 0.0)


@pytest.mark.parametrize("by", [-HOUR, YEAR], ids=["set back", "ahead"])
def test_the_hub_is_left_alone_for_as_long_as_it_asks_by_its_own_clock(by: timedelta) -> None:
    hubs = datetime.now(UTC).replace(microsecond=0) + by
    headers = {
        "Date": format_datetime(hubs, usegmt=True),
        "Retry-After": format_datetime(hubs + timedelta(seconds=7), usegmt=True),
    }
    assert waiting_time_s(httpx2.Response(429, headers=headers)) == 7.0


def test_a_file_that_is_written_again_after_the_clock_was_set_back_is_read_again(
    tmp_path: Path,
) -> None:
    file = tmp_path / "data.json"
    file.write_text("one")
    ahead = datetime.now(UTC).timestamp() + 3600
    os.utime(file, (ahead, ahead))
    assert sha256_of_state(file) == sha256_of(file)
    file.write_text("two")
    assert sha256_of_state(file) == sha256_of(file)


def test_what_was_remembered_in_a_time_to_come_is_doubted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = RungRecords(tmp_path / "rung.json", {})
    kept.keep("half", above_was_short=True)
    assert (found := kept.recall()) and not found.is_doubted
    now = datetime.now(UTC).timestamp()
    monkeypatch.setattr("tasks.core.training.rung_records.time.time", lambda: now - 3600)
    assert (found := kept.recall()) and found.is_doubted
