import os
from pathlib import Path

import pytest

from tasks.core.files import digests
from tasks.core.files.digests import sha256_of, sha256_of_state, state_of


def write_later(path: Path, text: str) -> None:
    """Write once the file system's clock has moved on."""
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        path.write_text(text)


def test_the_state_follows_content_even_when_size_and_time_are_set_back(tmp_path: Path) -> None:
    path = tmp_path / "model" / "weights"
    path.parent.mkdir()
    path.write_text("one")
    before, times = state_of(path.parent), path.stat()
    assert state_of(path.parent) == before
    write_later(path, "two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert state_of(path.parent) != before


def test_a_file_that_is_settled_is_hashed_once_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hashed = tmp_path / "data", list[Path]()

    def watched(file: Path) -> str:
        hashed.append(file)
        return sha256_of(file)

    monkeypatch.setattr(digests, "sha256_of", watched)
    monkeypatch.setattr(digests, "_SETTLED_S", 1e9)
    path.write_text("one")
    assert sha256_of_state(path) == sha256_of_state(path) == sha256_of(path)
    assert len(hashed) == 2  # it is so young that it may change unseen
    monkeypatch.setattr(digests, "_SETTLED_S", -1e9)
    assert sha256_of_state(path) == sha256_of_state(path) == sha256_of(path)
    assert len(hashed) == 3
    write_later(path, "two")
    assert sha256_of_state(path) == sha256_of(path)
    assert len(hashed) == 4
