"""A schedule makes a record a run; what says nothing new goes, and no answer changes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.core.home import PROJECT
from tasks.core.store.repetitions import KEPT_RECORDS, forget_repetitions
from tasks.core.store.run_record import OpenRun, RunRecord
from tasks.core.store.runs import RunRecords

MANY = 3 * KEPT_RECORDS
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def records(tmp_path: Path) -> RunRecords:
    return RunRecords(tmp_path)


def put(records: RunRecords, number: int, *, ends: bool = True, **fields: object) -> None:
    at = BEGIN + timedelta(minutes=number)
    values = {"recipe": "demo", "started_at": at, "finished_at": at if ends else None, **fields}
    if "released" in values:
        values["released_at"] = at
    path = records.root / f"demo-{number:06}.json"
    OpenRun(path, RunRecord.model_validate(values)).save()


def answers(records: RunRecords) -> list[object]:
    return [
        [each.artifacts for each in records.last(KEPT_RECORDS)],
        records.releases("demo"),
        records.release_before("demo", "fuse-b"),
        records.artifacts_of_last(2),
        {name for each in records.unfinished() for name in each.artifacts},
        records.last_commit("base"),
        records.last_commit("delta"),
        getattr(records.last_release("demo"), "released_recipe", None),
    ]


def same(records: RunRecords, number: int) -> None:
    put(records, number, artifacts=("merge-a", "fuse-a"), released="fuse-a", reach=9)


def a_model_in_between(records: RunRecords, number: int) -> None:
    name = "fuse-b" if MANY // 3 < number < MANY // 2 else "fuse-a"
    put(records, number, artifacts=("merge-a", name), released=name, reach=9)


def parts_of_a_recipe(records: RunRecords, number: int) -> None:
    whole = number < KEPT_RECORDS // 2
    put(records, number, artifacts=("merge-a", f"edit-{number}"), reach=9 if whole else 3)


def failing(records: RunRecords, number: int) -> None:
    put(records, number, ends=False, artifacts=("merge-a",), reach=9)


def failing_now_and_then(records: RunRecords, number: int) -> None:
    put(records, number, ends=number % 2 == 0, artifacts=("merge-a",), reach=9)


def failing_further(records: RunRecords, number: int) -> None:
    artifacts = ("merge-a", "finetune-a") if number < KEPT_RECORDS else ("merge-a",)
    put(records, number, ends=False, artifacts=artifacts, reach=9)


def of_another_source(records: RunRecords, number: int) -> None:
    put(records, number, commits={"base" if number else "delta": f"{number:040}"})


def the_same_by_another_recipe_once(records: RunRecords, number: int) -> None:
    if number > KEPT_RECORDS // 2:
        put(records, number, artifacts=("merge-a",), reach=9)
    else:
        recipe = {"name": "demo", "keep": "released" if number == KEPT_RECORDS // 2 else "all"}
        put(records, number, released="fuse-a", reach=9, released_recipe=recipe)


@pytest.mark.parametrize(
    ("run", "left"),
    [
        (same, KEPT_RECORDS + 1),  # the one of the release
        (a_model_in_between, KEPT_RECORDS + 3),
        (parts_of_a_recipe, KEPT_RECORDS // 2 + KEPT_RECORDS),
        (failing, KEPT_RECORDS),
        (failing_now_and_then, 2 * KEPT_RECORDS),
        (failing_further, KEPT_RECORDS + 1),
        (of_another_source, KEPT_RECORDS + 1),
        (the_same_by_another_recipe_once, KEPT_RECORDS + 2),
    ],
)
def test_what_says_nothing_new_goes_and_no_answer_changes(
    records: RunRecords, run: Callable[[RunRecords, int], None], left: int
) -> None:
    for number in range(MANY):
        run(records, number)
    before = answers(records)
    forget_repetitions(records)
    assert answers(records) == before
    assert len(records.all()) == left


def test_as_many_stay_as_the_docs_say() -> None:
    told = (PROJECT / "docs" / "upkeep.md").read_text()
    assert f"The last {KEPT_RECORDS} of each recipe stay" in told


def test_what_the_remote_store_would_only_bring_back_stays(records: RunRecords) -> None:
    for number in range(MANY):
        same(records, number)
    there = {path.name for path in records.by_path()}
    forget_repetitions(records, but=there)
    assert len(records.all()) == MANY


def test_runs_of_other_recipes_do_not_count(records: RunRecords) -> None:
    for number in range(KEPT_RECORDS):
        put(records, number, recipe=f"recipe-{number % 2}")
    put(records, KEPT_RECORDS, recipe="another")
    forget_repetitions(records)
    assert len(records.all()) == KEPT_RECORDS + 1
