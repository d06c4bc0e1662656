"""Pieces of tensors, read from a model's files into buffers that are used again and again.

Does not map files: mapped pages count as the process's memory, and a merge would seem to need all
of both models. The invariant: a returned tensor has exactly the bytes of the file, or an error.
"""

import math
from types import TracebackType
from typing import Self

import torch

from tasks.core.errors import CorruptWeights
from tasks.core.weights.direct import InputFile, ThreadBuffer
from tasks.core.weights.dtypes import ITEM_BYTES, torch_dtype
from tasks.core.weights.index import ModelIndex


class TensorReader:
    """Reads elements of an index's tensors; safe to use from many threads at once."""

    def __init__(self, index: ModelIndex) -> None:
        self.index = index
        self._files: dict[str, InputFile] = {}
        self._buffer = ThreadBuffer()

    def __enter__(self) -> Self:
        for file in self.index.files:
            self._files[file] = InputFile(self.index.directory / file)
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
        item, dtype = ITEM_BYTES[entry.dtype], torch_dtype(entry.dtype)
        offset, nbytes = entry.offset + start * item, (stop - start) * item
        file = self._files[entry.file]
        buffer = self._buffer.of(file.room_for(nbytes))
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

    def load(self, name: str) -> torch.Tensor:
        """Return a whole tensor in its shape, in memory of its own: for small ones."""
        shape = self.index.tensors[name].shape
        return self.read(name, 0, math.prod(shape)).clone().reshape(shape)
