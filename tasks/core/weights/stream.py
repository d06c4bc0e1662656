"""The engine: a pool of threads puts pieces of a few megabytes through a function.

A thread takes the next piece of the result, reads the same elements from every source, computes,
writes and hashes. Reading, arithmetic, writing and hashing of different pieces overlap, because
each of them releases the interpreter's lock. Merge and fuse differ only in the function.

The invariant: the bytes written do not depend on the number of threads or on their timing.
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from tasks.core.errors import CorruptWeights
from tasks.core.progress import OnProgress, Tally, silent
from tasks.core.system.cores import usable_cores
from tasks.core.system.threads import run_all
from tasks.core.weights.direct import bytes_of
from tasks.core.weights.layout import Shard, TensorPiece
from tasks.core.weights.reader import TensorReader
from tasks.core.weights.writer import ShardedWriter

PieceFunction = Callable[..., torch.Tensor]
"""Called with a TensorPiece and, for each reader, a flat tensor of its elements, which may be
changed in place; returns a flat tensor of as many elements in the piece's dtype."""

_MAX_THREADS = 8
_SIGN = 0x8000
_LARGEST_EXPONENT = {torch.float16: 0x7C00, torch.bfloat16: 0x7F80}


def default_threads() -> int:
    """Return two threads per usable core, so that one can wait for the disk while one computes."""
    return min(_MAX_THREADS, 2 * usable_cores())


def stream(
    readers: Sequence[TensorReader],
    function: PieceFunction,
    writer: ShardedWriter,
    *,
    threads: int | None = None,
    tally: Tally | None = None,
    shards: Sequence[Shard] | None = None,
) -> None:
    """Write every pending piece of writer as function(piece, *elements of each reader).

    With shards, only theirs. Memory: threads x (readers + 1) x the largest piece. tally counts
    bytes of the result. Raises CorruptWeights, with the tensor's name, when a result holds NaN or
    infinity; the first error of any thread stops all of them.
    """
    count = threads or default_threads()
    tally = tally or tally_of(writer, silent)
    work = _SharedPieces(writer.pending(min(count, usable_cores()), shards))

    def run() -> None:
        for piece in work:
            sources = [reader.read(piece.name, piece.start, piece.stop) for reader in readers]
            result = function(piece, *sources)
            _require_finite(piece, result)
            writer.write(piece, bytes_of(result))
            tally.add(result.nbytes)

    def stop() -> None:
        work.stop()
        writer.abort()

    with _one_thread_per_operation():
        run_all([run] * count, threads=count, name="weights", stop=stop)


class _SharedPieces:
    """An iterator that threads share, and that any of them can stop."""

    def __init__(self, pieces: Iterator[TensorPiece]) -> None:
        self._pieces = pieces
        self._lock = threading.Lock()
        self._stopped = False

    def __iter__(self) -> Iterator[TensorPiece]:
        while True:
            with self._lock:
                piece = None if self._stopped else next(self._pieces, None)
            if piece is None:
                return
            yield piece

    def stop(self) -> None:
        with self._lock:
            self._stopped = True


def tally_of(writer: ShardedWriter, on_progress: OnProgress) -> Tally:
    """Return a tally of the result's bytes, with those of kept shards counted already."""
    shards = writer.layout.shards
    kept = sum(shard.tensor_bytes for shard in shards if shard.file in writer.kept)
    return Tally(writer.layout.total_bytes, on_progress, kept)


def _require_finite(piece: TensorPiece, result: torch.Tensor) -> None:
    """Raise CorruptWeights for NaN or infinity."""
    if not result.is_floating_point() or result.dtype.itemsize == 1:
        return
    if not is_finite(result):
        extremes = [float(extreme) for extreme in torch.aminmax(result)]
        raise CorruptWeights(
            "The result holds NaN or infinity.",
            where=piece.name,
            expected=f"finite numbers in {piece.dtype}",
            found=f"{extremes} among elements {piece.start} to {piece.stop}",
            next_step="Check that the inputs are complete and fit together, and that this dtype "
            "can hold the result: float32 and bfloat16 have a wider range.",
        )


def is_finite(values: torch.Tensor) -> bool:
    """Return whether a flat tensor of floats holds neither NaN nor infinity.

    In 16 bits by the bit patterns, in which these have the largest exponent, with either sign: two
    integer maxima take a quarter of the time of float ones. Otherwise by the extremes, which
    propagate NaN and cost a sixteenth of torch.isfinite(...).all().
    """
    largest = _LARGEST_EXPONENT.get(values.dtype)
    if largest is None:
        return all(math.isfinite(float(extreme)) for extreme in torch.aminmax(values))
    bits = values.view(torch.int16).numpy()
    return int(bits.max()) < largest and int(bits.view(np.uint16).max()) < _SIGN + largest


@contextmanager
def _one_thread_per_operation() -> Iterator[None]:
    """Keep torch from splitting each operation: the pool already has a thread for every core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
