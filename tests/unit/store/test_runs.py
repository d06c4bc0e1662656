from pathlib import Path

from tasks.core.store.runs import RunRecords


def test_last_runs_of_each_recipe_are_kept(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    for artifacts in (("a", "b"), ("a", "c"), ("a", "d")):
        records.add("demo", artifacts)
    records.add("other", ("x",))
    assert records.artifacts_of_last(2) == {"a", "c", "d", "x"}


def test_no_run_keeps_nothing(tmp_path: Path) -> None:
    assert RunRecords(tmp_path).artifacts_of_last(2) == set()


def test_release_before_is_the_same_for_a_run_and_for_its_repetition(tmp_path: Path) -> None:
    records = RunRecords(tmp_path)
    assert records.release_before("demo", "new") is None
    records.add("demo", ("older",), released="older")
    records.add("demo", ("old",), released="old")
    records.add("demo", ("edited only",))
    records.add("other", ("x",), released="x")
    assert records.release_before("demo", "new") == "old"
    records.add("demo", ("new",), released="new")
    assert records.release_before("demo", "new") == "old"


def test_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    record = '{"recipe": "demo", "finished_at": "2026-01-01T00:00:00Z", "artifacts": ["a"]}'
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo-1.json").write_text(record)
    assert RunRecords(tmp_path).release_before("demo", "b") is None
    assert RunRecords(tmp_path).artifacts_of_last(1) == {"a"}
