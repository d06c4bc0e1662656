"""The soak's verdict on series whose growth is known."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.soak.judge import PICTURE, READINGS, judge
from tests.soak.verdict import MEMORY, RULES, Allowed, findings, judged, slope

HOUR_S = 3600
LEVEL = 200e6


def series(value: Callable[[float], float]) -> list[tuple[float, float]]:
    return [(at, value(at)) for at in range(0, HOUR_S, 10)]


def grows(value: Callable[[float], float], allowed: Allowed = MEMORY) -> bool:
    found = judged("memory/gateway", series(value), HOUR_S, allowed)
    assert found is not None
    return found.grows


def test_a_process_that_begins_anew_in_each_half_is_found() -> None:
    begun = series(lambda at: 1.0 + (at > 1500) + (at > 2900))
    once = series(lambda at: 1.0 + (at > 2900))
    for points, grows_ in ((begun, True), (once, False)):
        found = judged("begun/engine", points, HOUR_S, RULES["begun"])
        assert found is not None
        assert found.grows is grows_


NOISE = random.Random(3)  # noqa: S311 - repeatable


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(lambda _: LEVEL, id="flat"),
        pytest.param(lambda _: LEVEL + NOISE.gauss(0, 20e6), id="noisy"),
        pytest.param(lambda at: LEVEL * min(1.0, at / 1000), id="growing in the warm-up only"),
        pytest.param(lambda at: LEVEL + (80e6 if at > HOUR_S / 2 else 0), id="a step"),
        pytest.param(lambda at: LEVEL + (80e6 if at > 2700 else 0), id="a late step"),
        pytest.param(lambda at: LEVEL + (900e6 if at % 300 < 20 else 0), id="with peaks"),
        pytest.param(lambda at: LEVEL - at * 1e4, id="shrinking"),
        pytest.param(lambda at: LEVEL + at / HOUR_S * 0.04 * LEVEL, id="below the share"),
    ],
)
def test_what_does_not_leak_is_said_not_to_grow(value: Callable[[float], float]) -> None:
    assert not grows(value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(lambda at: LEVEL + at / HOUR_S * 0.1 * LEVEL, id="a tenth an hour"),
        pytest.param(
            lambda at: LEVEL + at / HOUR_S * 0.15 * LEVEL + NOISE.gauss(0, 10e6), id="noisy"
        ),
        pytest.param(lambda at: LEVEL + at // 300 * 10e6, id="in steps"),
    ],
)
def test_what_leaks_is_said_to_grow(value: Callable[[float], float]) -> None:
    assert grows(value)


def test_one_file_more_in_a_run_is_growth_and_its_series_is_named() -> None:
    points = series(lambda at: 30 + at // 60)
    found = findings({"files/runs": points, "files/store": series(lambda _: 30)}, HOUR_S, {})
    assert [each.name for each in found if each.grows] == ["files/runs"]


def test_a_rule_of_its_own_stands_for_what_grows_by_nature() -> None:
    points = series(lambda at: 1e6 + at / 60 * 50e3)
    by_nature = {"disk/database": Allowed(share=0, floor=60 * 60e3)}
    assert [each.grows for each in findings({"disk/database": points}, HOUR_S, {})] == [True]
    assert [e.grows for e in findings({"disk/database": points}, HOUR_S, by_nature)] == [False]


def test_nothing_is_said_of_too_few_points() -> None:
    assert judged("memory/page", [(at, at) for at in range(3500, 3600, 10)], HOUR_S, MEMORY) is None


def test_the_slope_is_that_of_most_pairs() -> None:
    points = [(float(at), 2.0 * at) for at in range(50)]
    points[20] = (20.0, 1e9)
    assert slope(points) == 2.0


def soaked(root: Path, growth: float, amiss: Sequence[str] = ()) -> Path:
    readings = [
        {"at_s": at, "series": {"memory/gateway": LEVEL + growth * at, "disk/store": 1e6}}
        for at in range(0, HOUR_S, 10)
    ]
    lines = [*readings, {"counts": {"whole": 9}, "amiss": list(amiss)}]
    (root / READINGS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


@pytest.mark.parametrize(
    ("growth", "amiss", "words"),
    [
        (0.0, (), "grows: nothing"),
        (1e4, (), "grows: memory/gateway"),
        (0.0, ("whole: 500",), "amiss: ['whole: 500']"),
    ],
)
def test_a_soak_fails_by_the_name_of_what_grows_or_by_a_wrong_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], growth: float, amiss: tuple[str], words: str
) -> None:
    assert judge(soaked(tmp_path, growth, amiss)) == int(bool(growth or amiss))
    assert words in capsys.readouterr().out
    assert (tmp_path / PICTURE).stat().st_size > 10_000
