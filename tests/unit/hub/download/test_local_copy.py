"""A model from a directory of this machine."""

import hashlib
import os
import shutil

import pytest

from tasks.core.errors import DiskFull, NotAModel
from tasks.core.hub.download.local_copy import copy_directory, directory_identity

SHARD = "model-00001-of-00005.safetensors"


@pytest.fixture
def source(model, tmp_path):
    return shutil.copytree(model, tmp_path / "source")


def test_a_missing_directory_is_told(tmp_path):
    with pytest.raises(NotAModel, match="no such directory"):
        copy_directory(tmp_path / "nothing", tmp_path / "out")


def test_a_directory_that_holds_no_model_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(NotAModel, match=r"no config\.json"):
        copy_directory(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_before_the_first_byte(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DiskFull):
        copy_directory(source, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_copy_holds_the_model_and_knows_its_hashes(source, tmp_path):
    written = copy_directory(source, tmp_path / "out")
    assert SHARD in written.files
    assert "consolidated.00.pth" not in written.files
    assert set(written.files) == {path.name for path in (tmp_path / "out").iterdir()}
    for name, digest in written.files.items():
        content = (source / name).read_bytes()
        assert (tmp_path / "out" / name).read_bytes() == content
        assert digest.size_bytes == len(content)
        assert digest.sha256 == hashlib.sha256(content).hexdigest()


def test_the_copy_is_not_changed_when_the_original_is(source, tmp_path):
    before = (source / SHARD).read_bytes()
    copy_directory(source, tmp_path / "out")
    with (source / SHARD).open("r+b") as file:
        file.write(b"changed in place")
    assert (tmp_path / "out" / SHARD).read_bytes() == before


def test_what_a_killed_attempt_left_is_replaced(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / SHARD).write_bytes(b"half")
    copy_directory(source, tmp_path / "out")
    assert (tmp_path / "out" / SHARD).read_bytes() == (source / SHARD).read_bytes()


def test_progress_is_counted_in_bytes_and_ends_at_the_total(source, tmp_path):
    seen: list[tuple[int, int]] = []
    written = copy_directory(
        source, tmp_path / "out", lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (written.size_bytes, written.size_bytes)


def test_the_identity_follows_the_files_that_are_taken_and_no_others(source):
    before = directory_identity(source)
    (source / "consolidated.00.pth").write_bytes(b"something else")
    assert directory_identity(source) == before
    os.utime(source / SHARD, (1, 1))
    assert directory_identity(source) != before
