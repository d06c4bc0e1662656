from pathlib import Path

import pytest

from tasks.core.keys import StageKey, stage_key
from tasks.core.store import Staging, Store
from tasks.core.store.runs import RunRecords
from tasks.evaluate import release_before
from tasks.stage_result import StageResult


def built(home: Path, key: StageKey, content: bytes) -> StageResult:
    def write(staging: Staging) -> None:
        (staging.path / "weights").write_bytes(content)

    return StageResult.of(Store(home).build(key, write), "edit")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path))
    return tmp_path


def test_model_that_a_later_version_of_the_code_made_again_is_not_held_against_itself(
    home: Path,
) -> None:
    other = built(home, stage_key("edit", 1, {"layers": 1}), b"other")
    first = built(home, stage_key("edit", 1, {}), b"same")
    again = built(home, stage_key("edit", 2, {}), b"same")
    records = RunRecords(home)
    records.start("demo").release(first.artifact)
    assert release_before("demo", again) is None
    records.start("demo").release(other.artifact)
    records.start("demo").release(first.artifact)
    found = release_before("demo", again)
    assert found is not None
    assert str(found.key) == other.artifact
