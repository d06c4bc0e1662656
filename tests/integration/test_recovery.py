"""Runs that are killed on a real Prefect server and worker come to the same end, by themselves.

The whole list is played by tests/benchmarks/bench_recovery.py; these are its main cases.
"""

from collections.abc import Iterator

import pytest

from tests.recovery.cases import Row, cancelled, killed, together
from tests.recovery.machine import Machine, machine
from tests.recovery.strikes import (
    FINETUNE,
    Strike,
    kill_everything,
    kill_flow,
    kill_server,
    kill_worker,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("recovery")
    (root / "world").mkdir()
    with machine(root) as made:
        yield made


def require_nothing_lost(row: Row) -> None:
    assert row.same, row
    assert row.redone.whole == (), row


@pytest.mark.parametrize("strike", [kill_flow, kill_everything])
def test_killed_run_is_started_again_and_does_nothing_finished_twice(
    struck: Machine, strike: Strike
) -> None:
    row = killed(struck, "a run", FINETUNE, strike)
    require_nothing_lost(row)
    assert "Crashed" in row.came_back
    assert struck.running_tasks() == []


@pytest.mark.parametrize("strike", [kill_worker, kill_server])
def test_run_outlives_its_worker_and_its_server(struck: Machine, strike: Strike) -> None:
    require_nothing_lost(killed(struck, "what it was started by", FINETUNE, strike))


def test_cancelled_run_frees_what_it_held_and_the_next_one_goes_on(struck: Machine) -> None:
    row = cancelled(struck, FINETUNE)
    require_nothing_lost(row)
    assert "Cancelled" in row.struck
    assert "steps" not in row.redone.words


def test_later_one_of_two_runs_says_what_it_waits_for_and_takes_it_over(struck: Machine) -> None:
    row = together(struck)
    require_nothing_lost(row)
    assert "Waiting for finetune-" in row.came_back
