import os
from pathlib import Path

import pytest

from tasks.core.errors import DiskFull, UsageError
from tasks.core.files import durable as files
from tasks.core.files.durable import (
    WORK,
    digest_of,
    free_bytes,
    link_or_copy,
    require_room,
    sha256_of,
    sha256_of_state,
    staged_directory,
    state_of,
    write_atomically,
)


def test_failed_block_leaves_no_output_and_keeps_its_progress(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), staged_directory(out, "a work") as staging:
        (staging / "half").write_text("x")
        raise RuntimeError
    assert not out.exists()
    with staged_directory(out, "a work") as staging:
        assert (staging / "half").read_text() == "x"
    assert (out / "half").exists()
    assert not (tmp_path / "out.partial").exists()


def test_output_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(UsageError, match="exists already"), staged_directory(tmp_path / "out", 1):
        pass
    assert (tmp_path / "out" / "precious").read_text() == "x"


def _leave_half(out: Path, work: object) -> Path:
    """Leave a staging directory of this work, as a kill does."""
    with pytest.raises(RuntimeError), staged_directory(out, work) as staging:
        (staging / "half").write_text("x")
        (staging / "code").mkdir()
        (staging / "code" / "modeling.py").write_text("x")
        raise RuntimeError
    return out.with_name(out.name + ".partial")


@pytest.mark.parametrize("named", [True, False])
def test_what_another_work_left_is_removed_first(tmp_path: Path, named: bool) -> None:
    left = _leave_half(tmp_path / "out", {"command": "download", "inputs": ["A"]})
    if not named:
        (left / WORK).unlink()
    with staged_directory(tmp_path / "out", {"command": "download", "inputs": ["B"]}) as staging:
        assert [path.name for path in staging.iterdir()] == [WORK]
        (staging / "whole").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_a_refusal_before_the_first_byte_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError), staged_directory(tmp_path / "out", 1) as staging:
        (staging / "empty").mkdir()
        raise UsageError("refused")
    assert list(tmp_path.iterdir()) == []


def test_work_that_begins_anew_each_time_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged_directory(tmp_path / "o", 1, resumes=False) as staging:
        (staging / "unproven").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_emptying_removes_links_and_not_what_they_lead_to(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "link").symlink_to(precious)
    with staged_directory(tmp_path / "out", 1):
        pass
    assert (precious / "file").exists()


def test_a_link_or_a_file_in_the_staging_s_place_is_never_emptied(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / "a.partial").symlink_to(precious)
    (tmp_path / "b.partial").touch()
    for name in ("a", "b"):
        with pytest.raises(UsageError, match="has its name"), staged_directory(tmp_path / name, 1):
            pass
    assert (precious / "file").exists()


def test_an_output_below_a_file_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out", Path("/proc/out")):
        with pytest.raises(UsageError, match="cannot be made"), staged_directory(out, 1):
            pass


def test_the_state_follows_content_even_when_size_and_time_are_set_back(tmp_path: Path) -> None:
    path = tmp_path / "model" / "weights"
    path.parent.mkdir()
    path.write_text("one")
    before, times = state_of(path.parent), path.stat()
    assert state_of(path.parent) == before
    path.write_text("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert state_of(path.parent) != before


def test_too_little_room_is_told_with_figures(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=r"expected: .* GB\n  found: .* GB free"):
        require_room(tmp_path / "not" / "yet" / "there", free_bytes(tmp_path) * 2)


def test_replacing_a_file_never_shows_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    with path.open() as reader:
        write_atomically(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_hard_link_shares_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights")
    assert link_or_copy(tmp_path / "a", tmp_path / "b") == "hardlink"
    assert (tmp_path / "a").samefile(tmp_path / "b")


def test_copy_where_the_file_system_cannot_link(tmp_path: Path) -> None:
    other = Path("/dev/shm")  # noqa: S108 - a second file system on every Linux
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    (tmp_path / "a").write_bytes(b"weights")
    target = other / f"{tmp_path.name}-b"
    try:
        assert link_or_copy(tmp_path / "a", target) in ("reflink", "copy")
        assert digest_of(target) == digest_of(tmp_path / "a")
    finally:
        target.unlink()


def test_a_file_that_is_settled_is_hashed_once_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hashed = tmp_path / "data", list[Path]()

    def watched(file: Path) -> str:
        hashed.append(file)
        return sha256_of(file)

    monkeypatch.setattr(files, "sha256_of", watched)
    path.write_text("one")
    assert sha256_of_state(path) == sha256_of_state(path) == sha256_of(path)
    assert len(hashed) == 2  # it is so young that it may change unseen
    monkeypatch.setattr(files, "_SETTLED_S", -1e9)
    assert sha256_of_state(path) == sha256_of_state(path) == sha256_of(path)
    assert len(hashed) == 3
    path.write_text("two")
    assert sha256_of_state(path) == sha256_of(path)
    assert len(hashed) == 4
