"""The engine on its own: order, errors and interrupts of many threads."""

import os
import signal
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tasks.core.files.digests import digest_of
from tasks.core.weights import layout
from tasks.core.weights.dtypes import ITEM_BYTES
from tasks.core.weights.index import ModelIndex, read_index
from tasks.core.weights.layout import Layout, TensorPiece, TensorSpec, plan_layout
from tasks.core.weights.produce import WeightsWork
from tasks.core.weights.reader import TensorReader
from tasks.core.weights.stream import PieceFunction, is_finite, stream
from tasks.core.weights.writer import ShardedWriter, WriterAborted


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


def _copy(_: TensorPiece, source: torch.Tensor) -> torch.Tensor:
    return source


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_an_error_of_the_function_ends_all_threads_and_comes_out(index, tmp_path, threads):
    def boom(piece: TensorPiece, source: torch.Tensor) -> torch.Tensor:
        if piece.name == "t3":
            raise Boom(piece.name)
        return source

    before = set(threading.enumerate())
    with pytest.raises(Boom, match="t3"):
        _stream(index, tmp_path / "out", boom, threads)
    assert set(threading.enumerate()) <= before


def test_a_piece_does_not_wait_for_ever_for_one_before_it_that_failed(index, tmp_path):
    waiting, ended = threading.Event(), []

    def boom(piece: TensorPiece, source: torch.Tensor) -> torch.Tensor:
        if piece.name == "t2" and piece.start == 0:
            assert waiting.wait(60)
            raise Boom(piece.name)
        if piece.name == "t2":
            waiting.set()
        return source

    def run() -> None:
        with pytest.raises(Boom):
            _stream(index, tmp_path / "out", boom, threads=2)
        ended.append(True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert ended


def test_work_is_another_when_anything_differs_that_its_bytes_depend_on(index):
    work = WeightsWork("merge", (index,), _layout(index), parameters="scale 1")
    others = [
        replace(work, name="fuse"),
        replace(work, inputs=(index, index)),
        replace(work, layout=_layout(index, 800)),
        replace(work, parameters="scale 2"),
    ]
    assert len({each.identity() for each in (work, *others)}) == 5


def test_an_operation_has_one_thread_while_the_pool_has_many_and_its_own_again_after(
    index, tmp_path
):
    """Else each of the pool's threads would wait for a core of the others."""
    before, seen = torch.get_num_threads(), set()

    def look(_: TensorPiece, source: torch.Tensor) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return source

    torch.set_num_threads(3)
    try:
        _stream(index, tmp_path / "out", look, threads=2)
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert (seen, after) == ({1}, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_each_value_of_16_bits_is_taken_for_what_it_is(dtype):
    values = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16).view(dtype)
    assert [is_finite(value) for value in values.split(1)] == values.isfinite().tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_among_many_that_is_not_finite_is_found(dtype, value):
    values = torch.linspace(-60_000, 60_000, 1001, dtype=torch.float64).to(dtype)
    assert is_finite(values)
    values[500] = value
    assert not is_finite(values)


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(ITEM_BYTES)), st.integers(0, 9), st.integers(1, 5)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 400),
)
def test_every_tensor_begins_at_a_multiple_of_its_element(shapes, max_shard_bytes):
    """A loader maps the file and takes the elements where they lie."""
    specs = [TensorSpec(f"t{i}", dtype, (a, b)) for i, (dtype, a, b) in enumerate(shapes)]
    slots = [slot for shard in plan_layout(specs, max_shard_bytes).shards for slot in shard.slots]
    assert sorted(slot.name for slot in slots) == sorted(spec.name for spec in specs)
    assert not [slot for slot in slots if slot.offset % ITEM_BYTES[slot.dtype]]


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_all_threads_before_the_last_piece(index, tmp_path):
    begun: list[TensorPiece] = []
    pieces = [piece for shard in _layout(index).shards for piece in shard.pieces()]

    def slow(piece: TensorPiece, source: torch.Tensor) -> torch.Tensor:
        if not begun:
            os.kill(os.getpid(), signal.SIGINT)
        begun.append(piece)
        time.sleep(0.02)
        return source

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        _stream(index, tmp_path / "out", slow, 3)
    while set(threading.enumerate()) - before:  # one may only just have begun
        time.sleep(0.01)
    assert 0 < len(begun) < len(pieces)


def test_pieces_that_finish_out_of_order_are_hashed_in_order(index, tmp_path):
    def uneven(piece: TensorPiece, source: torch.Tensor) -> torch.Tensor:
        time.sleep(0.003 if piece.start % 2 == 0 else 0)
        return source

    writer = _stream(index, tmp_path / "out", uneven, 5)
    assert len(writer.finished) > 1
    for file, content in writer.finished.items():
        assert digest_of(tmp_path / "out" / file) == content


def test_shards_that_are_written_at_once_take_turns_and_each_keeps_its_order(index, tmp_path):
    (tmp_path / "out").mkdir()
    plan = _layout(index)
    with ShardedWriter(tmp_path / "out", plan, "work") as writer:
        pieces = list(writer.pending(shards_at_once=2))
    first, second = (shard.file for shard in plan.shards[:2])
    assert [piece.file for piece in pieces[:4]] == [first, second, first, second]
    for shard in plan.shards:
        assert [p for p in pieces if p.file == shard.file] == list(shard.pieces())


def test_a_piece_whose_turn_cannot_come_is_not_waited_with(index, tmp_path):
    (tmp_path / "out").mkdir()
    with ShardedWriter(tmp_path / "out", _layout(index), "work") as writer:
        _, second = islice(writer.pending(), 2)
        writer.abort()
        with pytest.raises(WriterAborted):
            writer.write(second, memoryview(bytes(64)))


def test_a_copy_by_many_threads_has_the_tensors_of_the_source(index, tmp_path):
    _stream(index, tmp_path / "out", _copy, 7)
    copied = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        copied |= load_file(file)
    source = load_file(index.directory / "model.safetensors")
    assert copied.keys() == source.keys()
    assert all(torch.equal(copied[name], source[name]) for name in source)


def test_a_copy_keeps_integers_booleans_and_the_largest_floats(tmp_path):
    tensors = {
        "steps": torch.arange(7),
        "mask": torch.tensor([True, False, True]),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(1.5),
        "largest": torch.full((3, 2), torch.finfo(torch.float32).max),
    }
    (tmp_path / "model").mkdir()
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    _stream(read_index(tmp_path / "model"), tmp_path / "out", _copy, 2)
    copied = load_file(tmp_path / "out" / "model.safetensors")
    assert copied.keys() == tensors.keys()
    assert all(torch.equal(copied[name], tensors[name]) for name in tensors)
    assert {name: tensor.dtype for name, tensor in copied.items()} == {
        name: tensor.dtype for name, tensor in tensors.items()
    }


def test_the_thread_setting_of_torch_is_given_back(index, tmp_path):
    before = torch.get_num_threads()
    _stream(index, tmp_path / "out", _copy, 2)
    assert torch.get_num_threads() == before


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
