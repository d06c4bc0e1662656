from pathlib import Path

import pytest

from tasks.core.files.copies import link_or_copy
from tasks.core.files.digests import digest_of


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
