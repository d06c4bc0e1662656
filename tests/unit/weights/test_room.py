"""Room for a whole model is claimed, and looked for, before the first byte of it is written."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.core.errors import DiskFull
from tasks.core.weights.merge import merge_delta
from tests.unit.weights.models import base_model, delta_for


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("pair")
    base = base_model(directory / "base")
    (base / "modeling_own.py").write_text("own = 1\n")
    return base, delta_for(base, directory / "delta")


def test_room_for_a_whole_shard_is_claimed_before_its_first_byte(tmp_path, pair, monkeypatch):
    """So that a full disk shows before hours of work, not after."""
    claimed: dict[str, tuple[int, int]] = {}
    pwrite = os.pwrite

    def look(fd: int, data: bytes, offset: int) -> int:
        state, name = os.fstat(fd), Path(f"/proc/self/fd/{fd}").readlink().name
        claimed.setdefault(name, (state.st_size, state.st_blocks * 512))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", look)
    written = merge_delta(*pair, tmp_path / "out", max_shard_bytes=10_000, threads=4)
    shards = [name for name in written.files if name.endswith(".safetensors")]
    assert len(shards) > 3
    for shard in shards:
        size_bytes, allocated_bytes = claimed[shard]
        assert size_bytes == written.files[shard].size_bytes <= allocated_bytes, shard


def test_room_is_asked_for_all_files_of_the_model(tmp_path, pair, monkeypatch):
    """One byte less than weights, index, tokenizer and code together is refused at once."""
    written = merge_delta(*pair, tmp_path / "out", max_shard_bytes=10_000)
    needed = sum(content.size_bytes for content in written.files.values())
    for free in (needed - 1, needed):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, n=free: SimpleNamespace(free=n))
        if free < needed:
            with pytest.raises(DiskFull):
                merge_delta(*pair, tmp_path / "next", max_shard_bytes=10_000)
            assert not list((tmp_path / "next").iterdir())
        else:
            merge_delta(*pair, tmp_path / "next", max_shard_bytes=10_000)
