"""A judge within a run: it measures nothing again, holds up nothing, and its key stays here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow

from tasks.core.errors import JudgeRefused
from tasks.core.evaluation.evaluate import OUTCOME, read_evaluation
from tasks.core.evaluation.side_by_side import JOURNAL
from tasks.core.files.durable import write_atomically
from tasks.core.keys import stage_key
from tasks.core.preflight.checks import check_recipe
from tasks.core.recipe import Evaluate, Gate, Judge, Recipe
from tasks.core.store import Staging, Store
from tasks.evaluate import _judged
from tasks.stage_result import StageResult
from tests.judges import JudgeServer, Said
from tests.unit.evaluation.test_side_by_side import FOUR, outcome

pytestmark = pytest.mark.usefixtures("prefect")
KEY = "sk-rahasia-0123456789"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    monkeypatch.setattr("tasks.core.retry.pause", lambda _: None)
    monkeypatch.setenv("HAKIM_KEY", KEY)
    server = JudgeServer()
    yield server
    server.close()


@pytest.fixture
def measured(home: Path) -> StageResult:
    """An evaluation of two models, as the store has it."""

    def write(staging: Staging) -> None:
        content = outcome(FOUR).model_dump_json()
        write_atomically(staging.path / OUTCOME, content)

    return StageResult.of(Store(home).build(stage_key("evaluate", 0, {}), write), "evaluate")


def settings(server: JudgeServer, limit: float | None = None) -> Evaluate:
    return Evaluate(
        judge=Judge(model="hakim", url=server.url, key_variable="HAKIM_KEY"),
        gate=Gate(min_judge_win_rate=limit),
    )


def run(measured: StageResult, given: Evaluate) -> StageResult:
    @flow(name="judging")
    def judging() -> StageResult:
        assert given.judge is not None
        return _judged(measured, given, given.judge)

    return judging()


def test_a_judge_that_is_away_holds_up_nothing_unless_the_gate_asks_for_it(
    server: JudgeServer, measured: StageResult
) -> None:
    server.instead = [Said(401, b"expired")] * 2
    assert run(measured, settings(server)) == measured
    with pytest.raises(JudgeRefused, match="found: 401"):
        run(measured, settings(server, limit=0.5))


def test_what_was_judged_before_a_failure_is_in_the_next_run_and_the_key_nowhere(
    server: JudgeServer, measured: StageResult, home: Path
) -> None:
    answer = server.answer

    def fails_once(*given: object) -> Said:
        failed = len(server.requests) == 3
        said = answer(*given)  # type: ignore[arg-type]
        return Said(401, b"expired") if failed else said

    server.answer = fails_once  # type: ignore[method-assign]
    assert run(measured, settings(server)) == measured
    found = run(measured, settings(server))
    assert len(server.requests) == 9
    judgement = read_evaluation(found.path).judgement
    assert judgement is not None
    assert judgement.wins == 4
    assert (found.path / JOURNAL).is_file()
    assert run(measured, settings(server)).cached
    assert len(server.requests) == 9
    for path in home.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


def test_another_judge_measures_nothing_again(
    server: JudgeServer, measured: StageResult, home: Path
) -> None:
    run(measured, settings(server))
    before = {a.key for a in Store(home).artifacts()}
    other = settings(server)
    assert other.judge is not None
    judge = other.judge.model_copy(update={"seed": 1})
    run(measured, other.model_copy(update={"judge": judge}))
    (added,) = {a.key for a in Store(home).artifacts()} - before
    assert added.stage == "evaluate"


def test_a_key_that_is_missing_is_told_before_anything_is_built(
    server: JudgeServer, recipe: Recipe, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HAKIM_KEY")
    judge = settings(server).judge
    asked = recipe.model_copy(
        update={"evaluate": recipe.evaluate.model_copy(update={"judge": judge})}
    )
    with pytest.raises(JudgeRefused, match="HAKIM_KEY"):
        check_recipe(asked, home)
    check_recipe(asked, home, stages=("finetune",))
