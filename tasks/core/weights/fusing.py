"""Apply an adapter to pieces of weights: those it names get their update, the rest is unchanged.

Sums are computed in the wider of fp32 and the weight's type, as PEFT's merge_and_unload does, and
rounded once; so is the base that PiSSA and OLoRA trained against. What needs a whole weight (its
decomposition, the norms of its columns) is computed by one thread at a time and cached while that
weight is processed: besides pieces, memory holds one weight in fp32 with its decomposition, and A
and B of the few weights in progress, never the whole adapter.
"""

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import torch

from tasks.core.errors import CorruptWeights
from tasks.core.weights.adapter import Adapter
from tasks.core.weights.adapter_tensors import LowRankUpdate
from tasks.core.weights.direct import ThreadBuffer
from tasks.core.weights.dtypes import torch_dtype
from tasks.core.weights.layout import PIECE_BYTES, TensorPiece
from tasks.core.weights.low_rank import (
    Factors,
    ScratchMemory,
    low_rank_elements,
    subtracted_factors,
)
from tasks.core.weights.reader import TensorReader

_LOADED_TENSORS = 16  # those of the few weights whose pieces are processed at the same time
_T = TypeVar("_T")


class Fusing:
    """Applies an adapter to pieces of a model's weights; safe to call from many threads at once."""

    def __init__(self, adapter: Adapter, tensors: TensorReader, weights: TensorReader) -> None:
        """tensors reads the adapter; weights reads the model, where more than a piece is needed.

        weights must not be the reader of the pieces: reading through it would overwrite them.
        """
        self._adapter = adapter
        self._tensors = tensors
        self._weights = weights
        self._changes, self._widened = _thread_memory(), _thread_memory()
        self._loaded = lru_cache(maxsize=_LOADED_TENSORS)(self._load)
        self._subtracted = _one_at_a_time(self._decompose)
        self._column_norms = _one_at_a_time(self._measure_columns)

    def __call__(self, piece: TensorPiece, weight: torch.Tensor) -> torch.Tensor:
        """Return the piece of the fused weight, flat, in its type."""
        update = self._adapter.low_rank.get(piece.name)
        weight = weight.to(torch_dtype(piece.dtype))
        if update is None:
            return weight
        if update.magnitude is not None:
            return weight.copy_(self._with_magnitude(update.magnitude, update, piece, weight))
        return weight.copy_(self._sum(update, piece.name, piece.start, weight))

    def _sum(
        self, update: LowRankUpdate, name: str, start: int, weight: torch.Tensor
    ) -> torch.Tensor:
        """Return weight, elements of a tensor from start on, with its update, in the wider type.

        It lies in this thread's buffer: the thread's next sum overwrites it.
        """
        stop, wider = start + weight.numel(), _wider(weight.dtype)
        if update.base is not None:
            taken, whole = self._subtracted(name), replace(update, scale=1.0)
            off = low_rank_elements(whole, taken, start, stop, self._changes)
            weight = (weight.to(torch.float32) - off).to(weight.dtype)
        factors = self._factors(update, wider)
        change = low_rank_elements(update, factors, start, stop, self._changes)
        return self._widened(weight.numel(), wider).copy_(weight).add_(change)

    def _with_magnitude(
        self, magnitude: str, update: LowRankUpdate, piece: TensorPiece, weight: torch.Tensor
    ) -> torch.Tensor:
        """Return a piece of m * (W + scale * B @ A) / its norms: of rows, or of columns (in, out).

        Source: DoRA, arXiv:2402.09353, section 4.1.
        """
        width = self._shape(piece.name)[1]
        start, stop = piece.start // width * width, math.ceil(piece.stop / width) * width
        if (start, stop) != (piece.start, piece.stop):
            weight = self._read(piece.name, start, stop)
        magnitudes = self._loaded(magnitude, _wider(weight.dtype))
        if update.transposed:  # computing the norms uses _sum too
            magnitudes = magnitudes / self._column_norms(piece.name)
        rows = self._sum(update, piece.name, start, weight).view(-1, width)
        if update.transposed:
            rows.mul_(magnitudes)
        else:
            norms = torch.linalg.norm(rows, dim=1)
            rows.mul_((magnitudes[start // width : stop // width] / norms).unsqueeze(1))
        return rows.reshape(-1)[piece.start - start : piece.stop - start]

    def _measure_columns(self, name: str) -> torch.Tensor:
        """Return the norm of each column of a weight with its update; reads the weight once."""
        update, width = self._adapter.low_rank[name], self._shape(name)[1]
        squares = torch.zeros(width, dtype=torch.float64)
        for start, block in self._blocks(name):
            rows = self._sum(update, name, start, block).reshape(-1, width)
            squares += rows.double().square_().sum(0)
        return squares.sqrt_().to(_wider(self._dtype(name)))

    def _decompose(self, name: str) -> Factors:
        """Return A and B of what was subtracted from a weight before training, in fp32."""
        update = self._adapter.low_rank[name]
        if update.base is None:
            raise ValueError(f"nothing was subtracted from {name}")
        whole = torch.empty(self._shape(name))
        for start, block in self._blocks(name):
            whole.view(-1)[start : start + block.numel()] = block
        if not bool(whole.isfinite().all()):
            raise CorruptWeights(
                "A weight of the model holds NaN or infinity, so it cannot be decomposed.",
                where=f"{self._weights.index.directory}: {name}",
                next_step="Download the model again.",
            )
        rank = self._tensors.index.tensors[update.a].shape[0]
        stored = whole.T if update.transposed else whole
        return subtracted_factors(update.base, stored, rank, update.scale)

    def _blocks(self, name: str) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield a weight in blocks of whole rows, each with the index of its first element."""
        height, width = self._shape(name)
        step = max(1, PIECE_BYTES // (width * self._dtype(name).itemsize))
        for first in range(0, height, step):
            start, stop = first * width, min(first + step, height) * width
            yield start, self._read(name, start, stop)

    def _read(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Return elements of a weight, in its type, in memory that no later read overwrites."""
        return self._weights.read(name, start, stop).to(self._dtype(name), copy=True)

    def _dtype(self, name: str) -> torch.dtype:
        return torch_dtype(self._weights.index.tensors[name].dtype)

    def _shape(self, name: str) -> tuple[int, int]:
        height, width = self._adapter.shape(self._weights.index.tensors[name])
        return height, width

    def _factors(self, update: LowRankUpdate, dtype: torch.dtype) -> Factors:
        return self._loaded(update.a, dtype), self._loaded(update.b, dtype)

    def _load(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        return self._tensors.load(name).to(dtype)


def _thread_memory() -> ScratchMemory:
    """Return a buffer that each thread reuses: every page of fresh memory costs a page fault."""
    buffer = ThreadBuffer()

    def of(count: int, dtype: torch.dtype) -> torch.Tensor:
        nbytes = count * dtype.itemsize
        return buffer.of(nbytes)[:nbytes].view(dtype)

    return of


def _wider(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _one_at_a_time(compute: Callable[[str], _T]) -> Callable[[str], _T]:
    """Return compute with a cache: threads that ask for the same name wait for one of them."""
    kept, lock = lru_cache(maxsize=_LOADED_TENSORS)(compute), threading.Lock()

    def found(name: str) -> _T:
        with lock:
            return kept(name)

    return found
