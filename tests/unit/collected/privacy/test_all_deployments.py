"""What stopped deployments have kept goes when its time is over."""

from datetime import UTC, datetime, timedelta

from tasks.core.collected.privacy.all_deployments import tidy_everywhere
from tasks.core.collected.privacy.promises import promise
from tasks.core.collected.storage.directory import COLLECTED, day_file, directory_lock
from tests.collected import an_answer, write


def test_a_stopped_deployment_keeps_nothing_over_its_time(tmp_path, monkeypatch):
    today = datetime.now(UTC).date()
    for name in ("stopped", "quiet", "busy"):
        directory = tmp_path / "serving" / name / COLLECTED
        directory.mkdir(parents=True, mode=0o700)
        for ago in (100, 40, 5, 1):
            write(day_file(directory, today - timedelta(days=ago)), an_answer(f"chatcmpl-{ago}"))
    promise(tmp_path / "serving" / "quiet" / COLLECTED, today - timedelta(days=40), 30, [])
    (tmp_path / "serving" / "none").mkdir()
    monkeypatch.setattr("tasks.core.collected.privacy.all_deployments._WAIT_S", 0.0)

    with directory_lock(tmp_path / "serving" / "busy" / COLLECTED, "a test"):
        tidy_everywhere(tmp_path)

    left = {
        path.name: len(list(path.glob("*/*.jsonl"))) for path in (tmp_path / "serving").iterdir()
    }
    assert left == {"stopped": 3, "quiet": 2, "busy": 4, "none": 0}
