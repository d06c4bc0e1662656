"""The program that starts everything anew gives up on nothing but a lock."""

import pytest

from tasks.core.errors import DiskFull, LockBusy, ServingFailed
from tasks.core.serving.launch import revive


@pytest.fixture
def started(monkeypatch):
    """Return what makes `start` fail in these ways in turn, and what it was called with."""
    calls = []

    def failing(*errors: Exception | None) -> list[tuple[object, str]]:
        waiting = iter(errors)

        def start(home, name):
            calls.append((home, name))
            if (error := next(waiting)) is not None:
                raise error

        monkeypatch.setattr(revive, "start", start)
        return calls

    monkeypatch.setattr(revive, "_PAUSES_S", (0.0,) * 4)
    return failing


def test_it_tries_again_whatever_has_happened(started, tmp_path, caplog):
    calls = started(ServingFailed("no"), DiskFull("full"), ValueError("unforeseen"), None)
    revive.main(str(tmp_path / "serving" / "kawan"))
    assert calls == [(tmp_path, "kawan")] * 4
    assert [record.exc_info is not None and bool(record.exc_info) for record in caplog.records] == [
        False,
        False,
        True,
    ]


def test_it_leaves_a_deployment_to_whom_has_its_lock(started, tmp_path):
    calls = started(LockBusy("busy"))
    revive.main(str(tmp_path / "serving" / "kawan"))
    assert len(calls) == 1


def test_at_last_it_ends_with_the_error(started, tmp_path):
    started(*[ValueError("unforeseen")] * 5)
    with pytest.raises(ValueError, match="unforeseen"):
        revive.main(str(tmp_path / "serving" / "kawan"))
