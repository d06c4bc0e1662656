"""Files around the page cache: any offset and length, the same bytes, O_DIRECT or not."""

import ctypes
import errno
import os
import random
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.weights import direct
from tasks.core.weights.direct import (
    BLOCK_BYTES,
    InputFile,
    OutputFile,
    aligned_buffer,
    bytes_of,
    cached_share,
)
from tests.benchmarks.measure import evict_file

SIZE = 5 * BLOCK_BYTES + 123
CONTENT = random.Random(7).randbytes(SIZE)  # noqa: S311


def share_of(path: Path) -> float:
    with path.open("rb") as opened:
        return cached_share(opened.fileno())


def require_outside_of_memory(path: Path) -> None:
    """Skip the test where evicted files stay in memory: on a tmpfs."""
    if share_of(path) > 0.5:
        pytest.skip("this file system keeps its files in memory")


@pytest.fixture(params=["around", "cached"], scope="module")
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> InputFile:
    """An input file that is read around the cache, and one that lies in it."""
    path = tmp_path_factory.mktemp("direct") / "content"
    path.write_bytes(CONTENT)
    if request.param == "around":
        evict_file(path)
        require_outside_of_memory(path)
    opened = InputFile(path)
    assert opened.room_for(1) == (2 * BLOCK_BYTES - 1 if request.param == "around" else 1)
    request.addfinalizer(opened.close)
    return opened


@settings(max_examples=80)
@given(offset=st.integers(0, SIZE + BLOCK_BYTES), nbytes=st.integers(0, SIZE + BLOCK_BYTES))
def test_any_part_is_read_and_the_end_of_the_file_is_told(
    file: InputFile, offset: int, nbytes: int
) -> None:
    buffer = aligned_buffer(file.room_for(nbytes))
    begin, found = file.read(offset, nbytes, buffer)
    assert bytes(bytes_of(buffer[begin : begin + found])) == CONTENT[offset : offset + nbytes]


@settings(max_examples=40)
@given(cuts=st.lists(st.integers(1, SIZE - 1), unique=True, max_size=12), seed=st.integers())
def test_pieces_in_any_order_make_the_file(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], seed: int
) -> None:
    path = tmp_path_factory.mktemp("written") / "content"
    edges = [0, *sorted(cuts), SIZE]
    pieces = list(pairwise(edges))
    random.Random(seed).shuffle(pieces)  # noqa: S311
    written = OutputFile(path, SIZE)
    for start, stop in pieces:
        written.write(memoryview(CONTENT)[start:stop], start, aligned_buffer(stop - start))
    written.close_synced()
    assert path.read_bytes() == CONTENT


def test_whole_blocks_leave_nothing_in_the_cache(tmp_path: Path) -> None:
    path, blocks = tmp_path / "content", 64
    written = OutputFile(path, blocks * BLOCK_BYTES)
    data = aligned_buffer(blocks * BLOCK_BYTES)
    written.write(bytes_of(data), 0, aligned_buffer(data.nbytes))
    written.close_synced()
    left = share_of(path)
    evict_file(path)
    require_outside_of_memory(path)
    assert left < 0.1


@pytest.mark.parametrize("refused_at", ["open", "use"])
def test_a_filesystem_that_refuses_is_used_with_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused_at: str
) -> None:
    _refuse(monkeypatch, refused_at)
    path = tmp_path / "content"
    written = OutputFile(path, SIZE)
    written.write(memoryview(CONTENT), 0, aligned_buffer(SIZE))
    written.close_synced()
    evict_file(path)
    opened = InputFile(path)
    buffer = aligned_buffer(opened.room_for(SIZE))
    assert opened.room_for(1) == 1
    assert opened.read(0, SIZE, buffer) == (0, SIZE)
    opened.close()
    assert bytes(bytes_of(buffer[:SIZE])) == CONTENT


def test_a_disk_error_is_not_taken_for_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    evict_file(path)

    def broken(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(OSError, match="Input/output"):
        InputFile(path)


def test_room_is_claimed_before_the_first_byte(tmp_path: Path) -> None:
    OutputFile(tmp_path / "content", SIZE).close()
    assert (tmp_path / "content").stat().st_blocks * 512 >= SIZE


def test_a_filesystem_that_cannot_claim_room_is_not_written_to_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answer_fallocate(monkeypatch, errno.EOPNOTSUPP)
    OutputFile(tmp_path / "content", SIZE).close()
    state = (tmp_path / "content").stat()
    assert state.st_size == SIZE
    assert state.st_blocks * 512 <= BLOCK_BYTES  # the one that O_DIRECT was tried with


def test_a_disk_without_room_for_the_file_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answer_fallocate(monkeypatch, errno.ENOSPC)
    with pytest.raises(OSError, match="No space") as caught:
        OutputFile(tmp_path / "content", SIZE)
    assert caught.value.errno == errno.ENOSPC


def _answer_fallocate(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make the system refuse to claim room, as NFS does before version 4.2."""

    def refused(*_: Any) -> int:
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(direct, "_libc", SimpleNamespace(fallocate=refused, mincore=lambda *_: 1))


def _refuse(monkeypatch: pytest.MonkeyPatch, refused_at: str) -> None:
    """Make the system refuse O_DIRECT as tmpfs does (open), or as some network disks do (use)."""
    around: set[int] = set()
    real = {name: getattr(os, name) for name in ("open", "close", "preadv", "pwrite")}

    def opened(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT and refused_at == "open":
            raise OSError(errno.EINVAL, "Invalid argument")
        fd = int(real["open"](path, flags, mode))
        if flags & os.O_DIRECT:
            around.add(fd)
        return fd

    def closed(fd: int) -> None:
        around.discard(fd)
        real["close"](fd)

    def using(name: str) -> Any:
        def use(fd: int, *rest: Any) -> Any:
            if fd in around:
                raise OSError(errno.EINVAL, "Invalid argument")
            return real[name](fd, *rest)

        return use

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "close", closed)
    monkeypatch.setattr(os, "preadv", using("preadv"))
    monkeypatch.setattr(os, "pwrite", using("pwrite"))
