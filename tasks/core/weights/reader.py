"""Pieces of tensors, read from a model's files into buffers that are used again and again.

Does not map files: mapped pages count as the process's memory, and a merge would seem to need all
of both models. The invariant: a returned tensor has exactly the bytes of the file, or an error.
"""

import math
import os
import threading
from types import TracebackType
from typing import Any, Self

import torch

from tasks.core.errors import CorruptWeights
from tasks.core.weights.dtypes import ITEM_BYTES, torch_dtype
from tasks.core.weights.index import ModelIndex


class TensorReader:
    """Reads elements of an index's tensors; safe to use from many threads at once."""

    def __init__(self, index: ModelIndex) -> None:
        self.index = index
        self._fds: dict[str, int] = {}
        self._local = threading.local()

    def __enter__(self) -> Self:
        for file in self.index.files:
            self._fds[file] = os.open(self.index.directory / file, os.O_RDONLY | os.O_CLOEXEC)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._fds:
            os.close(self._fds.popitem()[1])

    def read(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Return elements start to stop of a tensor, counted through its rows, as a flat tensor.

        It lies in this thread's buffer: the thread's next read overwrites it, and until then the
        caller may change it in place.
        """
        entry = self.index.tensors[name]
        item = ITEM_BYTES[entry.dtype]
        buffer = self._buffer((stop - start) * item)
        path = self.index.directory / entry.file
        offset = entry.offset + start * item
        _read_fully(self._fds[entry.file], bytes_of(buffer), offset, str(path))
        return buffer.view(torch_dtype(entry.dtype))

    def load(self, name: str) -> torch.Tensor:
        """Return a whole tensor in its shape, in memory of its own: for small ones."""
        shape = self.index.tensors[name].shape
        return self.read(name, 0, math.prod(shape)).clone().reshape(shape)

    def _buffer(self, nbytes: int) -> torch.Tensor:
        buffer: torch.Tensor | None = getattr(self._local, "buffer", None)
        if buffer is None or buffer.numel() < nbytes:
            buffer = self._local.buffer = torch.empty(nbytes, dtype=torch.uint8)
        return buffer[:nbytes]


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the memory of a flat, contiguous tensor."""
    array: Any = tensor.view(torch.uint8).numpy()
    return memoryview(array)


def _read_fully(fd: int, target: memoryview, offset: int, path: str) -> None:
    done = 0
    while done < len(target):
        count = os.preadv(fd, [target[done:]], offset + done)
        if count == 0:
            raise CorruptWeights(
                "The file became shorter while it was read.",
                where=path,
                expected=f"{len(target)} bytes at {offset}",
                found=f"{done} bytes",
                next_step="Let nothing else write to the model's directory, and start again.",
            )
        done += count
