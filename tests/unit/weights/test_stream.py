"""The engine on its own: order, errors and interrupts of many threads."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tasks.core.files import digest_of
from tasks.core.weights import layout
from tasks.core.weights.index import ModelIndex, read_index
from tasks.core.weights.layout import Layout, Piece, TensorSpec, plan_layout
from tasks.core.weights.reader import TensorReader
from tasks.core.weights.stream import PieceFunction, stream
from tasks.core.weights.writer import ShardedWriter


class Boom(Exception):
    """An error of the function that is given to the stream."""


@pytest.fixture
def index(tmp_path, monkeypatch) -> ModelIndex:
    monkeypatch.setattr(layout, "PIECE_BYTES", 64)
    model = tmp_path / "model"
    model.mkdir()
    tensors = {f"t{i}": torch.randn(37, 5, generator=torch.manual_seed(i)) for i in range(6)}
    save_file(tensors, model / "model.safetensors")
    return read_index(model)


def _layout(index: ModelIndex, max_shard_bytes: int = 2000) -> Layout:
    specs = [TensorSpec(e.name, e.dtype, e.shape) for e in index.tensors.values()]
    return plan_layout(specs, max_shard_bytes)


def _stream(index: ModelIndex, out: Path, function: PieceFunction, threads: int) -> ShardedWriter:
    out.mkdir(exist_ok=True)
    with TensorReader(index) as reader, ShardedWriter(out, _layout(index), "work") as writer:
        stream([reader], function, writer, threads=threads)
    return writer


def _copy(_: Piece, source: torch.Tensor) -> torch.Tensor:
    return source


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_an_error_of_the_function_ends_all_threads_and_comes_out(index, tmp_path, threads):
    def boom(piece: Piece, source: torch.Tensor) -> torch.Tensor:
        if piece.name == "t3":
            raise Boom(piece.name)
        return source

    before = threading.active_count()
    with pytest.raises(Boom, match="t3"):
        _stream(index, tmp_path / "out", boom, threads)
    assert threading.active_count() == before


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_all_threads_before_the_last_piece(index, tmp_path):
    begun: list[Piece] = []
    pieces = [piece for shard in _layout(index).shards for piece in shard.pieces()]

    def slow(piece: Piece, source: torch.Tensor) -> torch.Tensor:
        if not begun:
            os.kill(os.getpid(), signal.SIGINT)
        begun.append(piece)
        time.sleep(0.02)
        return source

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        _stream(index, tmp_path / "out", slow, 3)
    assert threading.active_count() == before
    assert 0 < len(begun) < len(pieces)


def test_pieces_that_finish_out_of_order_are_hashed_in_order(index, tmp_path):
    def uneven(piece: Piece, source: torch.Tensor) -> torch.Tensor:
        time.sleep(0.003 if piece.start % 2 == 0 else 0)
        return source

    writer = _stream(index, tmp_path / "out", uneven, 5)
    assert len(writer.finished) > 1
    for file, content in writer.finished.items():
        assert digest_of(tmp_path / "out" / file) == content


def test_a_copy_by_many_threads_has_the_tensors_of_the_source(index, tmp_path):
    _stream(index, tmp_path / "out", _copy, 7)
    copied = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        copied |= load_file(file)
    source = load_file(index.directory / "model.safetensors")
    assert copied.keys() == source.keys()
    assert all(torch.equal(copied[name], source[name]) for name in source)


def test_the_thread_setting_of_torch_is_given_back(index, tmp_path):
    before = torch.get_num_threads()
    _stream(index, tmp_path / "out", _copy, 2)
    assert torch.get_num_threads() == before


@settings(deadline=None)
@given(
    specs=st.lists(
        st.tuples(
            st.sampled_from(["U8", "F16", "F32", "I64"]), st.lists(st.integers(0, 9), max_size=3)
        ),
        max_size=8,
    ),
    max_shard_bytes=st.integers(1, 500),
    piece_bytes=st.integers(8, 100),
)
def test_pieces_cover_each_shard_once_and_in_order(specs, max_shard_bytes, piece_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "PIECE_BYTES", piece_bytes)
        plan = plan_layout(
            (TensorSpec(f"t{i}", dtype, tuple(shape)) for i, (dtype, shape) in enumerate(specs)),
            max_shard_bytes,
        )
        for shard in plan.shards:
            position = len(shard.header)
            for piece in shard.pieces():
                assert piece.offset == position
                nbytes = (piece.stop - piece.start) * layout.ITEM_BYTES[piece.dtype]
                assert 0 < nbytes <= piece_bytes
                position += nbytes
            assert position == shard.size_bytes
            assert shard.tensor_bytes <= max_shard_bytes or len(shard.slots) == 1
    names = [slot.name for shard in plan.shards for slot in shard.slots]
    assert sorted(names) == sorted(f"t{i}" for i in range(len(specs)))
