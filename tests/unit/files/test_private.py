"""What holds a secret is closed to others, from the first byte on."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.errors import UsageError
from tasks.core.files.private import keep_private, private_directory, write_private


@pytest.fixture(autouse=True)
def permissive() -> Iterator[None]:
    """The umask under which a careless program leaves everything open."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_secret_is_never_readable_by_others_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    fsync = os.fsync

    def look(fd: int) -> None:
        seen.extend(mode(path) for path in tmp_path.iterdir())
        fsync(fd)

    monkeypatch.setattr(os, "fsync", look)
    write_private(tmp_path / "tokens.json", "hf_secret")
    assert len(seen) == 2  # once under its first name, once under its own
    assert set(seen) == {0o600}


def test_a_secret_that_others_could_read_is_closed_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.json"
    path.write_text("hf_secret")
    keep_private(path)
    assert mode(path) == 0o600
    assert "mode 0666" in caplog.text
    assert "replace the token" in caplog.text
    assert "hf_secret" not in caplog.text


def test_what_is_closed_already_is_left_alone_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.json"
    path.touch(0o400)
    keep_private(path)
    assert mode(path) == 0o400
    assert caplog.text == ""


def test_a_secret_that_belongs_to_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.json"
    path.touch()

    def not_the_owner(*_: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(Path, "chmod", not_the_owner)
    with pytest.raises(UsageError, match="belongs to another user"):
        keep_private(path)


def test_a_directory_that_was_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    private_directory(tmp_path / "open")
    private_directory(tmp_path / "new")
    assert mode(tmp_path / "open") == mode(tmp_path / "new") == 0o700
