"""The artifact of what the team has accepted."""

import json
from pathlib import Path

import pytest

from tasks import collected as task
from tasks.core.collected.storage.directory import COLLECTED
from tasks.core.errors import UsageError
from tasks.stage_result import StageResult
from tests.collected import Kept


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path))
    kept = Kept(tmp_path / "serving" / "warung" / COLLECTED)
    kept.answer("chatcmpl-1", "Bisa?", "Ya.", rated="down")
    kept.answer("chatcmpl-2", "Boleh?", "Boleh.")
    kept.review("chatcmpl-1", answer="Tentu bisa.")
    return kept


def taken(deployment: str = "warung") -> StageResult:
    made: StageResult = task.collected.fn.__wrapped__(deployment)
    return made


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("name", ["lain", "../warung", ".."])
def test_a_deployment_that_has_collected_nothing_is_named(name):
    with pytest.raises(UsageError):
        taken(name)


def test_it_says_who_decided_and_when_and_only_its_owner_reads_it(kept):
    made = taken()
    reviews = json.loads((made.path / "reviews.json").read_text())
    assert reviews.keys() == {"chatcmpl-1"}
    assert reviews["chatcmpl-1"]["reviewer"] == "rina"
    assert made.path.stat().st_mode & 0o077 == 0
    assert made.facts["reviewed"] == 1


def test_without_a_new_decision_it_is_the_artifact_that_is_there(kept):
    first = taken()
    kept.answer("chatcmpl-3", "Harus?", "Harus.")
    assert taken().cached
    kept.review("chatcmpl-2")
    second = taken()
    assert not second.cached
    assert second.artifact != first.artifact
