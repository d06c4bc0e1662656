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
