from pathlib import Path

import pytest

from tasks.core.errors import DiskFull, UsageError
from tasks.core.files import (
    digest_of,
    free_bytes,
    link_or_copy,
    require_room,
    staged_directory,
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
