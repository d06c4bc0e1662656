"""Whether two tensors of a model are the same: by their place, else by their bytes."""

import math

import torch

from tasks.core.weights.dtypes import ITEM_BYTES
from tasks.core.weights.index import ModelIndex, TensorEntry
from tasks.core.weights.layout import PIECE_BYTES
from tasks.core.weights.reader import TensorReader


def same_place(one: TensorEntry, other: TensorEntry) -> bool:
    """Return True when both tensors of one model are the very same bytes of a file."""
    return (one.file, one.offset, one.stride) == (other.file, other.offset, other.stride)


def same_bytes(index: ModelIndex, one: TensorEntry, other: TensorEntry) -> bool:
    """Return True when both tensors of index have the same dtype, shape and bytes."""
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
