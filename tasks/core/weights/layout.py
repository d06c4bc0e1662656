"""The plan of the files to write: which tensor goes into which shard, at which byte.

Pure arithmetic, no I/O. Shards follow the order of the tensors given, so that reading stays
sequential; inside a shard larger element types come first, which keeps every tensor aligned.

The invariant: a layout depends only on names, dtypes, shapes and the shard size, so two runs over
the same model write the same files.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tasks.core.weights.dtypes import ITEM_BYTES, size_bytes
from tasks.core.weights.safetensors_header import HeaderEntry, encode_header

MAX_SHARD_BYTES = 2_000_000_000
"""A kill costs at most the shards in progress, one per core, and a core writes 2 GB in about two
seconds."""

PIECE_BYTES = 1 << 20
"""What a thread processes at once: small enough to stay in the core's cache from reading to
hashing. Pieces of 2 and 4 MiB are no faster and take more memory."""

INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of the result, still to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The bytes of the tensor."""
        return size_bytes(self.dtype, self.shape)


@dataclass(frozen=True)
class TensorPiece:
    """Elements start to stop of a tensor, and their byte offset in its file."""

    file: str
    name: str
    dtype: str
    start: int
    stop: int
    offset: int


@dataclass(frozen=True)
class Shard:
    """One file: its header, and its tensors with offsets that count from the start of the file."""

    file: str
    header: bytes
    slots: tuple[HeaderEntry, ...]

    @property
    def tensor_bytes(self) -> int:
        """The bytes of the tensors."""
        return sum(slot.nbytes for slot in self.slots)

    @property
    def size_bytes(self) -> int:
        """The bytes of the whole file."""
        return len(self.header) + self.tensor_bytes

    def pieces(self) -> Iterator[TensorPiece]:
        """Yield the shard's pieces in the order of their bytes, in whole rows where they fit."""
        for slot in self.slots:
            count = math.prod(slot.shape)
            step = _piece_elements(slot)
            for start in range(0, count, step):
                stop = min(start + step, count)
                offset = slot.offset + start * ITEM_BYTES[slot.dtype]
                yield TensorPiece(self.file, slot.name, slot.dtype, start, stop, offset)


@dataclass(frozen=True)
class Layout:
    """All shards of a model to be written."""

    shards: tuple[Shard, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes of all weight files."""
        return sum(shard.size_bytes for shard in self.shards)

    @property
    def total_bytes(self) -> int:
        """The bytes of all tensors."""
        return sum(shard.tensor_bytes for shard in self.shards)

    @property
    def parameters(self) -> int:
        """The elements of all tensors."""
        return sum(math.prod(slot.shape) for shard in self.shards for slot in shard.slots)

    def index_json(self) -> str | None:
        """Return transformers' index file, None for a model in a single file."""
        if len(self.shards) == 1:
            return None
        weight_map = {slot.name: shard.file for shard in self.shards for slot in shard.slots}
        metadata = {"total_parameters": self.parameters, "total_size": self.total_bytes}
        document = {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}
        return json.dumps(document, indent=2) + "\n"


def plan_layout(specs: Iterable[TensorSpec], max_shard_bytes: int = MAX_SHARD_BYTES) -> Layout:
    """Return shards of at most max_shard_bytes of tensors; a larger tensor gets its own."""
    groups: list[list[TensorSpec]] = [[]]
    filled = 0
    for spec in specs:
        if groups[-1] and filled + spec.nbytes > max_shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(spec)
        filled += spec.nbytes
    names = _shard_names(len(groups))
    return Layout(tuple(map(_shard, names, groups)))


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _shard(file: str, specs: list[TensorSpec]) -> Shard:
    aligned = sorted(specs, key=lambda spec: -ITEM_BYTES[spec.dtype])
    relative, position = [], 0
    for spec in aligned:
        relative.append(HeaderEntry(spec.name, spec.dtype, spec.shape, position, spec.nbytes))
        position += spec.nbytes
    header = encode_header(relative)
    slots = tuple(
        HeaderEntry(slot.name, slot.dtype, slot.shape, len(header) + slot.offset, slot.nbytes)
        for slot in relative
    )
    return Shard(file, header, slots)


def _piece_elements(slot: HeaderEntry) -> int:
    item = ITEM_BYTES[slot.dtype]
    row = math.prod(slot.shape[1:])
    if row * item > PIECE_BYTES or row == 0:
        return PIECE_BYTES // item
    return row * (PIECE_BYTES // (row * item))
