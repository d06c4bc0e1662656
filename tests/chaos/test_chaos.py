"""The whole recipe is killed at random moments, resumed, and ends as if nothing had happened.

`make chaos` kills a hundred times; `make chaos SEED=7 KILLS=20` does so from this seed, so often.
Each line names what was killed, and where; the table at the end counts them.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from tests.chaos.operator import Operator
from tests.chaos.plan import Plan
from tests.chaos.play import play, struck_machine

SEED = int(os.environ.get("KAWAN_USAHA_CHAOS_SEED") or random.randrange(10_000))  # noqa: S311
KILLS = int(os.environ.get("KAWAN_USAHA_CHAOS_KILLS") or "11")
_GUARD_S = 1800 + 300 * KILLS
"""Against hanging. The play is bounded by its kills, not by time."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_GUARD_S)]


def tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - whoever waits for hours sees how far it is


def test_killed_recipe_ends_as_an_undisturbed_one_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    root: Path = tmp_path_factory.mktemp("chaos")
    began, rounds = time.monotonic(), 0
    with capsys.disabled(), play(root) as made:
        tell(f"\nseed {SEED}, {KILLS} kills, in {root}")
        undisturbed, took_s = made.undisturbed()
        plan = Plan(SEED, KILLS, took_s)
        resumed: Counter[str] = Counter()
        failures: list[str] = []
        runs: list[UUID] = []
        try:
            with struck_machine(made) as machine:
                while not plan.is_over():
                    rounds += 1
                    operator = Operator(machine, plan.chance, resumed, failures)
                    assert made.round(machine, plan, operator) == undisturbed
                    made.clear(machine.home)
                    runs += operator.runs
                operator.require_ended(runs)
        finally:
            tell(plan.table())
            tell(f"resumed: {dict(resumed)}")
            tell(f"failed: {dict(Counter(failures))}")
            tell(f"{plan.done.total()} kills, {rounds} rounds, {time.monotonic() - began:.0f} s")
    record_property("table", plan.table())
