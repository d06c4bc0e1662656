from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.core.learning.decisions import LearningDecisions, learning_key


def decide(sets: LearningDecisions, reviewed_set: str, *answers: str) -> None:
    work = learning_key(reviewed_set, ())
    sets.add(work, reviewed_set, answers, ending="refused", model="fuse-1", reasons=("worse",))


def test_a_decision_that_is_torn_or_foreign_is_left_out_and_the_others_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sets = LearningDecisions(tmp_path, "demo")
    decide(sets, "one", "a", "b")
    (whole,) = (tmp_path / "learned" / "demo").glob("*.json")
    (whole.parent / "20200101T000000.json").write_bytes(whole.read_bytes()[:40])
    (whole.parent / "20200101T000001.json").write_bytes(b"\xff[]")
    assert [each.reviewed_set for each in sets.all()] == ["one"]
    assert "is damaged" in caplog.text


def test_the_same_set_is_decided_once_and_other_changes_of_the_recipe_are_another_work(
    tmp_path: Path,
) -> None:
    sets = LearningDecisions(tmp_path, "demo")
    assert sets.decided(learning_key("one", ())) is None
    decide(sets, "one", "a")
    found = sets.decided(learning_key("one", ()))
    assert found is not None
    assert found.ending == "refused"
    assert sets.decided(learning_key("one", ("finetune.epochs=2",))) is None
    assert LearningDecisions(tmp_path, "other").decided(learning_key("one", ())) is None


def test_new_is_what_no_decision_has_seen(tmp_path: Path) -> None:
    sets = LearningDecisions(tmp_path, "demo")
    decide(sets, "one", "a", "b")
    decide(sets, "two", "b", "c")
    assert sets.new_among(("a", "b", "c", "d")) == ("d",)


def test_after_a_decision_from_a_time_to_come_the_next_one_is_later(tmp_path: Path) -> None:
    sets = LearningDecisions(tmp_path, "demo")
    decide(sets, "one", "a")
    (path,) = (tmp_path / "learned" / "demo").glob("*.json")
    ahead = sets.all()[0].model_copy(update={"decided_at": datetime(2099, 1, 1, tzinfo=UTC)})
    path.write_text(ahead.model_dump_json())
    decide(sets, "two", "b")
    assert [each.reviewed_set for each in sets.all()] == ["one", "two"]
