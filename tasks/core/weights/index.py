"""The index of a model directory: which tensor lies where, from headers alone.

Covers safetensors and `.bin` checkpoints, in one file or in shards, with or without an index file.
Where a directory holds both formats, safetensors wins, as in transformers. Reads no weight, and
imports torch only for `.bin`.

The invariant: every tensor of a ModelIndex lies wholly inside a file that is inside the directory,
and each name stands for exactly one tensor.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tasks.core.errors import CorruptWeights, NotAModel, UnsafeWeights
from tasks.core.keys import digest
from tasks.core.weights.safetensors_header import HeaderEntry, read_header
from tasks.core.weights.torch_bin import read_bin

WeightFormat = Literal["safetensors", "bin"]

_NUMBERED = re.compile(r"-(\d+)-of-(\d+)\.")
_STEMS: tuple[tuple[WeightFormat, str, str], ...] = (
    ("safetensors", "model", ".safetensors"),
    ("bin", "pytorch_model", ".bin"),
)
_ADAPTER_FILES: tuple[tuple[WeightFormat, str], ...] = (
    ("safetensors", "adapter_model.safetensors"),
    ("bin", "adapter_model.bin"),
)
_WHOLE = "Download the directory again, or complete it."


@dataclass(frozen=True)
class TensorEntry:
    """One tensor on the disk; offset counts from the start of the file, in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    nbytes: int


@dataclass(frozen=True)
class ModelIndex:
    """All tensors of a directory, in the order of their bytes on the disk."""

    directory: Path
    format: WeightFormat
    tensors: Mapping[str, TensorEntry]

    @property
    def total_bytes(self) -> int:
        """The bytes of all tensors; tied ones of a `.bin` file count twice."""
        return sum(entry.nbytes for entry in self.tensors.values())

    @property
    def files(self) -> tuple[str, ...]:
        """The weight files, each once, relative to the directory."""
        return tuple(dict.fromkeys(entry.file for entry in self.tensors.values()))

    def fingerprint(self) -> str:
        """Return what changes when the weights do: names, sizes and times of files, and headers.

        Not a digest of the weights: it tells whether work on these very files may go on.
        """
        stats = [(name, (self.directory / name).stat()) for name in self.files]
        return digest(
            {
                "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
                "tensors": [
                    [entry.name, entry.dtype, entry.shape, entry.file, entry.offset]
                    for entry in self.tensors.values()
                ],
            }
        )


def read_index(directory: Path) -> ModelIndex:
    """Return the index of a model directory.

    Raises NotAModel where there are no weights, CorruptWeights for missing, truncated or malformed
    files, UnsafeWeights for a path that leaves the directory or a pickle that asks for code.
    """
    if not directory.is_dir():
        raise NotAModel(
            "There is no such directory.", where=directory, next_step="Check the path's spelling."
        )
    for kind, stem, suffix in _STEMS:
        single, listing = f"{stem}{suffix}", directory / f"{stem}{suffix}.index.json"
        if (directory / single).is_file():
            return _index(directory, kind, [single])
        if listing.is_file():
            return _listed_index(directory, kind, listing)
        shards = sorted(path.name for path in directory.glob(f"{stem}-*{suffix}"))
        if shards:
            _require_whole_set(directory, shards)
            return _index(directory, kind, shards)
    raise NotAModel(
        "The directory holds no weights.",
        where=directory,
        expected="model.safetensors or pytorch_model.bin, whole or in shards",
        found=", ".join(sorted(path.name for path in directory.iterdir())[:8]) or "nothing",
        next_step="Give the directory that holds the model itself.",
    )


def read_adapter_index(directory: Path) -> ModelIndex:
    """Return the index of the weights of a PEFT adapter directory."""
    for kind, name in _ADAPTER_FILES:
        if (directory / name).is_file():
            return _index(directory, kind, [name])
    raise NotAModel(
        "The directory holds no adapter weights.",
        where=directory,
        expected=" or ".join(name for _, name in _ADAPTER_FILES),
        next_step="Give the directory that PEFT's save_pretrained wrote.",
    )


def _listed_index(directory: Path, kind: WeightFormat, listing: Path) -> ModelIndex:
    """Return the index of a sharded model; its index file and its shards must agree."""
    weight_map = _read_weight_map(listing)
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        _require_inside(listing, shard)
        if not (directory / shard).is_file():
            raise CorruptWeights(
                "The index names a file that is not there.",
                where=listing,
                found=shard,
                next_step=_WHOLE,
            )
    index = _index(directory, kind, shards)
    stored = {name: entry.file for name, entry in index.tensors.items()}
    for name in sorted(stored.keys() | weight_map.keys()):
        if stored.get(name) != weight_map.get(name):
            raise CorruptWeights(
                "The index and the shards disagree about a tensor.",
                where=f"{listing}: {name}",
                expected=f"in {weight_map.get(name, 'no file')}, as the index says",
                found=f"in {stored.get(name, 'no file')}",
                next_step=_WHOLE,
            )
    return index


def _read_weight_map(listing: Path) -> dict[str, str]:
    try:
        document = json.loads(listing.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CorruptWeights(
            "The index file is not valid JSON.", where=listing, found=error, next_step=_WHOLE
        ) from error
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptWeights("The index file has no weight_map.", where=listing, next_step=_WHOLE)
    for name, shard in weight_map.items():
        if not isinstance(shard, str):
            raise CorruptWeights(
                "The index names no file for a tensor.",
                where=f"{listing}: {name}",
                found=shard,
                next_step=_WHOLE,
            )
    return weight_map


def _require_inside(listing: Path, shard: str) -> None:
    """Raise UnsafeWeights for a name that leaves the directory.

    Only the name is judged: that a file of the directory is a symbolic link is how the Hub's cache
    stores every model.
    """
    path = PurePosixPath(shard)
    if path.is_absolute() or ".." in path.parts or "\\" in shard or "\0" in shard:
        raise UnsafeWeights(
            "The index names a file outside the model's directory.",
            where=listing,
            found=shard,
            next_step="Do not use this model.",
        )


def _require_whole_set(directory: Path, shards: list[str]) -> None:
    """Raise CorruptWeights when shards that count themselves (1-of-3) are not all there."""
    numbers = [match.groups() for shard in shards if (match := _NUMBERED.search(shard))]
    if not numbers:
        return
    found = {int(number) for number, _ in numbers}
    totals = {int(total) for _, total in numbers}
    if len(totals) != 1 or found != set(range(1, max(totals) + 1)):
        raise CorruptWeights(
            "The shards of the model are not all there.",
            where=directory,
            expected=f"1 to {max(totals)}",
            found=", ".join(shards),
            next_step=_WHOLE,
        )


def _index(directory: Path, kind: WeightFormat, files: Iterable[str]) -> ModelIndex:
    tensors: dict[str, TensorEntry] = {}
    for file in files:
        for entry in _entries(directory / file, kind):
            if entry.name in tensors:
                raise CorruptWeights(
                    "A tensor stands in two files.",
                    where=f"{directory}: {entry.name}",
                    found=f"{tensors[entry.name].file} and {file}",
                    next_step=_WHOLE,
                )
            tensors[entry.name] = TensorEntry(
                entry.name, entry.dtype, entry.shape, file, entry.offset, entry.nbytes
            )
    return ModelIndex(directory, kind, tensors)


def _entries(path: Path, kind: WeightFormat) -> list[HeaderEntry]:
    return read_header(path) if kind == "safetensors" else read_bin(path)
