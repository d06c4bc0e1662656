"""Pieces of tensors, read from a model's files into buffers that are used again and again.

Does not map files: mapped pages count as the process's memory, and a merge would seem to need all
of both models. A tensor of a `.bin` that is stored as a transposed or strided view is put in order
once, whole, in memory. The invariant: a returned tensor has exactly the elements that the file
gives it, or an error.
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
from tasks.core.weights.safetensors_header import span_elements


class TensorReader:
    """Reads elements of an index's tensors; safe to use from many threads at once."""

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
        """Return elements start to stop of a tensor, counted through its rows, as a flat tensor.

        It lies in this thread's buffer: the thread's next read overwrites it, and until then the
        caller may change it in place.
        """
        entry = self.index.tensors[name]
        if entry.stride is not None:
            return self._in_a_row(entry)[start:stop].clone()
        return self._elements(entry, start, stop)

    def load(self, name: str) -> torch.Tensor:
        """Return a whole tensor in its shape, in memory of its own: for small ones."""
        shape = self.index.tensors[name].shape
        return self.read(name, 0, math.prod(shape)).clone().reshape(shape)

    def _in_a_row(self, entry: TensorEntry) -> torch.Tensor:
        """Return all elements of a transposed or strided tensor, flat, kept while it is in work."""
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
                "The file became shorter while it was read.",
                where=self.index.directory / entry.file,
                expected=f"{nbytes} bytes at {offset}",
                found=f"{found} bytes",
                next_step="Let nothing else write to the model's directory, and start again.",
            )
        elements = buffer[begin : begin + nbytes]
        return elements.view(dtype) if begin % item == 0 else elements.clone().view(dtype)
