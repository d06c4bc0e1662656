"""What is said to be finished is on the disk: the order of writes, fsyncs and names."""

from pathlib import Path

import pytest

from tasks.core.weights.journal import DIRECTORY
from tasks.core.weights.merge import merge
from tasks.core.weights.result import WrittenModel
from tests.unit.weights.disk import DiskCalls
from tests.unit.weights.models import base_model, delta_for


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("pair")
    base = base_model(directory / "base")
    (base / "modeling_own.py").write_text("own = 1\n")
    return base, delta_for(base, directory / "delta")


@pytest.fixture
def merged(tmp_path, pair, monkeypatch) -> tuple[WrittenModel, DiskCalls, Path]:
    """A merge of a dozen shards into out by many threads, and what it asked of the disk."""
    out = tmp_path / "out"
    calls = DiskCalls(out, monkeypatch)
    written = merge(*pair, out, max_shard_bytes=10_000, threads=4)
    monkeypatch.undo()
    assert written.shards_written > 3
    return written, calls, out


def _shards(written: WrittenModel) -> list[str]:
    return [name for name in written.files if name.endswith(".safetensors")]


def test_a_shard_is_on_the_disk_before_the_journal_names_it(merged):
    written, calls, out = merged
    for shard in _shards(written):
        writes = calls.positions(out / shard, "pwrite")
        synced = calls.positions(out / shard, "fsync")
        (named,) = calls.positions(out / DIRECTORY / f"{shard}.json", "rename", "replace")
        assert writes
        assert any(max(writes) < at < named for at in synced), shard


def test_an_entry_of_the_journal_is_on_the_disk_before_it_has_its_name(merged):
    written, calls, out = merged
    for shard in _shards(written):
        (named,) = calls.positions(out / DIRECTORY / f"{shard}.json", "rename", "replace")
        before = [c for c in calls[:named] if c.name == "fsync" and c.path.parent.name == DIRECTORY]
        assert any(c.size_bytes == calls[named].size_bytes > 0 for c in before), shard
        assert any(at > named for at in calls.positions(out / DIRECTORY, "fsync")), shard


def test_all_files_and_their_names_are_on_the_disk_before_the_journal_is_forgotten(merged):
    """Without the journal, a power cut after this would leave a model that nothing can judge."""
    written, calls, out = merged
    forgotten = min(
        i for i, c in enumerate(calls) if c.name == "unlink" and c.path.parent.name == DIRECTORY
    )
    for name, content in written.files.items():
        own = calls.positions(out / name, "fsync")
        renamed = calls.positions(out / name, "rename", "replace")
        whole = [i for i in own if calls[i].size_bytes == content.size_bytes]
        assert any(at < forgotten for at in (*whole, *renamed)), name
        assert max((*own, *renamed)) < forgotten, name
    assert not (out / DIRECTORY).exists()


def test_the_names_in_the_directory_are_on_the_disk_at_the_end(merged):
    _, calls, out = merged
    last = max(i for i, c in enumerate(calls) if c.name in ("rename", "replace", "unlink"))
    assert any(at > last for at in calls.positions(out, "fsync"))


def test_room_for_a_whole_shard_is_claimed_before_its_first_byte(merged):
    """So that a full disk shows before hours of work, not after."""
    written, calls, out = merged
    for shard in _shards(written):
        first = calls[min(calls.positions(out / shard, "pwrite"))]
        assert first.size_bytes == written.files[shard].size_bytes, shard
        assert first.allocated_bytes >= written.files[shard].size_bytes, shard
