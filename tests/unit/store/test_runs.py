import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.core.errors import DiskFull
from tasks.core.store.run_record import OpenRun, RunRecord, is_superseded
from tasks.core.store.runs import RunRecords


def finished(records: RunRecords, recipe: str, *artifacts: str, reach: int = 0) -> OpenRun:
    run = started(records, recipe, *artifacts, reach=reach)
    run.finish()
    return run


def started(records: RunRecords, recipe: str, *artifacts: str, reach: int = 0) -> OpenRun:
    run = records.start(recipe, reach=reach)
    for artifact in artifacts:
        run.add(artifact)
    return run


def released(records: RunRecords, recipe: str, artifact: str) -> None:
    run = started(records, recipe, artifact)
    run.release(artifact)
    run.finish()


@pytest.mark.parametrize(
    "content",
    [b"", b'{"recipe": "demo", "artifacts": ["merge-00000000000000000001"', b"\xff\xfe", b"[1]"],
)
def test_record_that_cannot_be_read_stops_nothing_and_is_reported(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    records = RunRecords(tmp_path)
    released(records, "demo", "edit-a")
    (records.root / "demo-broken.json").write_bytes(content)
    assert records.release_before("demo", "edit-b") == "edit-a"
    assert "demo-broken.json is damaged (1 validation error" in caplog.text
    assert len(records.last(5)) == 1
    assert caplog.text.count("is damaged") == 1


def test_artifacts_that_a_damaged_record_still_names_are_kept(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    records.root.mkdir()
    name = "finetune-0123456789abcdef0123"
    (records.root / "demo-1.json").write_text(f'{{"artifacts": ["{name}", "fuse-01')
    assert records.artifacts_of_last(1) == {name}


def test_damaged_record_that_is_removed_before_it_is_read_names_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = RunRecords(tmp_path)
    records.root.mkdir()
    (records.root / "demo-1.json").write_text('{"artifacts": ["finetune-0123456789abcdef0123"')
    read_text = Path.read_text

    def too_late(path: Path, **options: str) -> str:
        path.unlink()
        return read_text(path, **options)

    monkeypatch.setattr(Path, "read_text", too_late)
    assert records.named_in_damaged() == set()


def test_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def enospc(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tasks.core.store.run_record.write_atomically", enospc)
    with pytest.raises(DiskFull, match="record of a run"):
        RunRecords(tmp_path).start("demo")


def test_other_os_errors_are_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(FileExistsError):
        RunRecords(tmp_path).start("demo")


def test_killed_run_leaves_a_record_of_all_that_it_asked_for(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from tasks.core.store.runs import RunRecords

        run = RunRecords(Path(sys.argv[1])).start("demo")
        run.add("base")
        replace = Path.rename
        Path.rename = lambda path, target: os.kill(os.getpid(), signal.SIGKILL)
        run.add("merge")
    """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        check=False,
        env=dict(os.environ),
    )
    assert child.returncode == -signal.SIGKILL
    (record,) = RunRecords(tmp_path).unfinished()
    assert record.artifacts == ("base",)
    assert record.finished_at is None


def test_last_runs_of_each_recipe_are_kept(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    for artifacts in (("a", "b"), ("a", "c"), ("a", "d")):
        finished(records, "demo", *artifacts)
    finished(records, "other", "x")
    assert records.artifacts_of_last(2) == {"a", "c", "d", "x"}


def test_parts_that_were_built_since_do_not_count_out_a_whole_rebuild(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    finished(records, "demo", "adapter", reach=7)
    for number in range(3):
        finished(records, "demo", f"edit-{number}", reach=3)
    assert records.artifacts_of_last(1) == {"adapter", "edit-2"}
    finished(records, "demo", "other", reach=7)
    assert records.artifacts_of_last(1) == {"other"}


def test_no_run_keeps_nothing(tmp_path: Path) -> None:
    assert RunRecords(tmp_path).artifacts_of_last(2) == set()


def test_last_release_is_kept_however_many_parts_were_built_since(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    released(records, "demo", "model")
    for number in range(3):
        finished(records, "demo", f"part-{number}")
    assert "model" in records.artifacts_of_last(1)


def test_release_counts_although_the_run_did_not_finish(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    released(records, "demo", "older")
    started(records, "demo", "newer").release("newer", forced="as an example")
    assert records.release_before("demo", "next") == "newer"
    assert records.last_release("demo") == records.unfinished()[0]
    assert records.unfinished()[0].forced == "as an example"


def test_release_before_is_the_same_for_a_run_and_for_its_repetition(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    assert records.release_before("demo", "new") is None
    released(records, "demo", "older")
    released(records, "demo", "old")
    finished(records, "demo", "edited only")
    released(records, "other", "x")
    assert records.release_before("demo", "new") == "old"
    released(records, "demo", "new")
    assert records.release_before("demo", "new") == "old"


def test_signature_of_a_model_is_that_of_its_last_release(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    signature = {"signed_by": "fingerprint", "signature_sha256": "digest"}
    assert records.signature_of("demo", "model") == {}
    records.start("demo").release("model", **signature)
    records.start("demo").release("another")
    assert records.signature_of("demo", "model") == signature
    records.start("demo").release("model")
    assert records.signature_of("demo", "model") == {}


def test_attempt_takes_the_commits_of_the_one_before_it(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    for attempt_of, commit in [("this", "a"), ("this", "b"), ("another", "c"), (None, "d")]:
        records.start("demo", attempt_of=attempt_of, commits={"base": commit})
    assert records.commits_of("this") == {"base": "b"}
    assert records.commits_of("first") == {}
    assert records.commits_of(None) == {}


def test_last_commit_of_a_source_is_that_of_the_last_run_that_used_it(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    for recipe, commits in [("demo", {"base": "a"}), ("other", {"base": "b"}), ("demo", {})]:
        records.start(recipe, commits=commits)
    assert records.last_commit("base") == "b"
    assert records.last_commit("delta") is None


def test_unfinished_run_is_superseded_by_a_later_one_that_went_as_far(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    started(records, "demo", "a", reach=5)
    finished(records, "other", "a", reach=7)
    finished(records, "demo", "a", reach=2)
    assert [run.artifacts for run in records.unfinished()] == [("a",)]
    finished(records, "demo", "a", reach=5)
    assert records.unfinished() == []


def test_run_that_started_after_the_finished_one_is_not_superseded(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    finished(records, "demo", "a", reach=7)
    started(records, "demo", "b")
    assert [run.artifacts for run in records.unfinished()] == [("b",)]


def test_run_that_started_with_the_finished_one_is_not_superseded() -> None:
    """They are of different machines."""
    now = datetime.now(UTC)
    ours = RunRecord(recipe="demo", started_at=now)
    theirs = RunRecord(recipe="demo", started_at=now, finished_at=now)
    assert not is_superseded(ours, [ours, theirs])


def test_forgotten_run_leaves_its_release_on_record(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    started(records, "demo", "base", "model").release("model")
    started(records, "demo", "base")
    records.forget(unfinished=True)
    assert [run.artifacts for run in records.all()] == [("model",)]
    assert records.release_before("demo", "next") == "model"


def test_runs_that_may_go_on_are_not_forgotten_unless_asked_for(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    started(records, "demo", "superseded")
    finished(records, "demo", "done")
    started(records, "demo", "stopped")
    records.forget(unfinished=False)
    assert {run.artifacts for run in records.all()} == {("done",), ("stopped",)}


def test_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    record = {
        "recipe": "demo",
        "finished_at": "2026-01-01T00:00:00Z",
        "artifacts": ["a"],
        "released": "a",
        "forced": None,
    }
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo-1.json").write_text(json.dumps(record))
    records = RunRecords(tmp_path)
    assert records.release_before("demo", "b") == "a"
    assert records.artifacts_of_last(1) == {"a"}
    assert records.unfinished() == []
    released(records, "demo", "b")
    assert records.releases("demo") == ["b", "a"]


def test_run_of_which_no_reach_is_known_gives_way_to_any_other(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    records.root.mkdir()
    (records.root / "demo-1.json").write_text(
        '{"recipe": "demo", "finished_at": "2026-01-01T00:00:00Z"}'
    )
    records.start("demo").finish()
    finished(records, "demo", "a", reach=0)
    assert [run.artifacts for run in records.last(1)] == [("a",)]


@pytest.mark.parametrize(
    "changes",
    [
        {"started_at": "2026-11-30T10:00:00"},  # without a zone it cannot be compared with others
        {"finished_at": "2026-11-30"},
        {"released": "../../elsewhere"},
        {"released": "/etc"},
        {"artifacts": ["merge-0", "a/b"]},
        {"artifacts": ["..\x00"]},
    ],
    ids=str,
)
def test_record_with_what_no_run_writes_is_damaged(
    changes: dict[str, object], tmp_path: Path
) -> None:
    records = RunRecords(tmp_path)
    for _ in range(2):
        records.start("demo").finish()
    path = sorted(records.root.iterdir())[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert len(records.all()) == 1
    assert records.artifacts_of_last(2) == set()
