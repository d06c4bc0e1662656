"""Who is asked about the reviewed conversations."""

import logging
from pathlib import Path

import pytest

from flows.learning import release_check as learning_proof
from flows.learning.release_check import LearningRun
from tasks.core.collected.review.reviewed_set import HELD_OUT
from tasks.core.conversation.reading.data_sources import REVIEWED_PREFERENCES
from tasks.core.learning.decisions import LearningDecisions
from tasks.core.recipe import Evaluate, Gate, Judge

ELSEWHERE = "https://judge.example/v1"


@pytest.fixture
def reviewed_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(learning_proof, "get_run_logger", logging.getLogger)
    for name in (HELD_OUT, REVIEWED_PREFERENCES):
        (tmp_path / name).write_text("{}")
    return tmp_path


def settings(reviewed_set: Path, judge: Judge) -> Evaluate:
    learning = LearningRun("warung", LearningDecisions(reviewed_set, "warung"), 1.0)
    given = Evaluate(judge=judge, gate=Gate(min_judge_win_rate=0.5))
    return learning._settings(given, reviewed_set, reviewed_set / "prompts.json")


def test_a_judge_elsewhere_is_not_asked_about_what_people_wrote(reviewed_set):
    found = settings(reviewed_set, Judge(model="hakim", url=ELSEWHERE))
    assert found.judge is None
    assert found.gate.min_judge_win_rate is None


@pytest.mark.parametrize(
    "judge",
    [
        Judge(model="hakim", url=ELSEWHERE, sees_collected=True),
        Judge(model="hakim", url="http://127.0.0.1:8000/v1"),
    ],
)
def test_one_that_may_see_them_or_is_this_machine_is_asked_and_has_its_limit(reviewed_set, judge):
    found = settings(reviewed_set, judge)
    assert found.judge is not None
    assert found.judge.ratings == reviewed_set / REVIEWED_PREFERENCES
    assert found.gate.min_judge_win_rate == 0.5
