"""Pieces of tensors, read from a model's files into reused buffers; and comparing two tensors.

Does not map files: mapped pages count as the process's memory, and a merge would seem to need all
of both models. A tensor of a `.bin` that is stored as a transposed or strided view is made
contiguous once, whole, in memory. The invariant: a returned tensor has exactly the elements that
the file holds for it, or reading raises.
"""

import math
import threading
from types import TracebackType
from typing import Self

import torch

from tasks.core.errors import CorruptWeights
from tasks.core.system.errors import names_path
from tasks.core.weights.direct import InputFile, ThreadBuffer
from tasks.core.weights.dtypes import ITEM_BYTES, torch_dtype
from tasks.core.weights.index import ModelIndex, TensorEntry
from tasks.core.weights.layout import PIECE_BYTES
from tasks.core.weights.safetensors_header import span_elements


class TensorReader:
    """Reads elements of the tensors in an index; safe to use from many threads at once."""

    def __init__(self, index: ModelIndex) -> None:
        self.index = index
        self._files: dict[str, InputFile] = {}
        self._buffer = ThreadBuffer()
        self._strided = threading.Lock()
        self._last: tuple[str, torch.Tensor] | None = None

    def __enter__(self) -> Self:
        for file in self.index.files:
            path = self.index.directory / file
            with names_path(path):
                self._files[file] = InputFile(path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def read(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Return elements start to stop of a tensor in row-major order, as a flat tensor.

        It lies in this thread's buffer: the thread's next read overwrites it, and until then the
        caller may change it in place.
        """
        entry = self.index.tensors[name]
        if entry.stride is not None:
            return self._in_a_row(entry)[start:stop].clone()
        return self._elements(entry, start, stop)

    def load(self, name: str) -> torch.Tensor:
        """Return a whole tensor in its shape, in its own memory; meant for small tensors."""
        shape = self.index.tensors[name].shape
        return self.read(name, 0, math.prod(shape)).clone().reshape(shape)

    def _in_a_row(self, entry: TensorEntry) -> torch.Tensor:
        """Return all elements of a transposed or strided tensor, flat; the latest one is cached."""
        with self._strided:
            if self._last is None or self._last[0] != entry.name:
                flat = self._elements(entry, 0, span_elements(entry.shape, entry.stride))
                whole = flat.as_strided(entry.shape, entry.stride or ())
                self._last = entry.name, whole.contiguous().reshape(-1)
            return self._last[1]

    def _elements(self, entry: TensorEntry, start: int, stop: int) -> torch.Tensor:
        item, dtype = ITEM_BYTES[entry.dtype], torch_dtype(entry.dtype)
        offset, nbytes = entry.offset + start * item, (stop - start) * item
        file = self._files[entry.file]
        buffer = self._buffer.of(file.room_for(nbytes))
        with names_path(self.index.directory / entry.file):
            begin, found = file.read(offset, nbytes, buffer)
        if found < nbytes:
            raise CorruptWeights(
                "The file became shorter while it was being read.",
                where=self.index.directory / entry.file,
                expected=f"{nbytes} bytes at {offset}",
                found=f"{found} bytes",
                next_step="Make sure that nothing writes to the model's directory, then run again.",
            )
        elements = buffer[begin : begin + nbytes]
        return elements.view(dtype) if begin % item == 0 else elements.clone().view(dtype)


def same_place(one: TensorEntry, other: TensorEntry) -> bool:
    """Return whether both tensors of one model are the same bytes of the same file."""
    return (one.file, one.offset, one.stride) == (other.file, other.offset, other.stride)


def same_bytes(index: ModelIndex, one: TensorEntry, other: TensorEntry) -> bool:
    """Return whether both tensors have the same dtype, shape and bytes."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if same_place(one, other):
        return True
    count, step = math.prod(one.shape), PIECE_BYTES // ITEM_BYTES[one.dtype]
    with TensorReader(index) as ones, TensorReader(index) as others:
        return all(
            torch.equal(
                ones.read(one.name, start, min(start + step, count)).view(torch.uint8),
                others.read(other.name, start, min(start + step, count)).view(torch.uint8),
            )
            for start in range(0, count, step)
        )
