"""The index of a model directory: which tensor lies where, from headers alone.

Covers safetensors and `.bin` checkpoints, in one file or in shards; `weight_files` decides which
files those are. Reads no weights, and imports torch only for `.bin`.

The invariant: every tensor of a ModelIndex lies entirely inside a file of the directory, and each
name stands for exactly one tensor.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import CorruptWeights, NotAModel
from tasks.core.files.digests import FileDigest
from tasks.core.files.foreign import JsonObject, read_json_object, require_undisguised
from tasks.core.keys import digest
from tasks.core.weights.safetensors_header import read_header
from tasks.core.weights.torch_bin import read_bin
from tasks.core.weights.weight_files import COMPLETE, WeightFiles, WeightFormat, choose_weights

ADAPTER_WEIGHTS: Mapping[WeightFormat, str] = {
    "safetensors": "adapter_model.safetensors",
    "bin": "adapter_model.bin",
}
"""What PEFT calls the weights of an adapter."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor on the disk; offset counts from the start of the file, in bytes.

    stride, in elements, is None unless it is a non-contiguous tensor of a `.bin`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    nbytes: int
    stride: tuple[int, ...] | None = None


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

    def identity(self, contents: Mapping[str, FileDigest] | None = None) -> str:
        """Return a value that changes with the weights: names, sizes and times of files, headers.

        Not a digest of the weights: it says whether work on these very files may be resumed. With
        contents, the digests of all files, their bytes count instead of their times.
        """
        if contents is not None:
            return digest(
                [[name, contents[name].size_bytes, contents[name].sha256] for name in self.files]
            )
        stats = [(name, (self.directory / name).stat()) for name in self.files]
        return digest(
            {
                "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
                "tensors": [
                    [entry.name, entry.dtype, entry.shape, entry.file, entry.offset, entry.stride]
                    for entry in self.tensors.values()
                ],
            }
        )


def read_index(directory: Path) -> ModelIndex:
    """Return the index of a model directory.

    Raises NotAModel where there are no weights, CorruptWeights for missing, truncated or malformed
    files, UnsafeWeights for a path that leaves the directory or a pickle that asks for code.
    """
    chosen = weight_files_of(directory)
    index = _index(directory, chosen.format, chosen.files)
    if chosen.listing is not None:
        _require_agreement(index, chosen.weight_map, directory / chosen.listing)
    return index


def weight_files_of(directory: Path) -> WeightFiles:
    """Return which files of a directory are its weights, as `choose_weights` decides."""
    require_directory(directory)
    return choose_weights(
        lambda name: (directory / name).is_file(),
        lambda name: read_listing(directory / name),
        where=directory,
        present=[path.name for path in directory.iterdir()],
    )


def require_directory(directory: Path) -> None:
    """Raise NotAModel where there is no directory."""
    if not directory.is_dir():
        raise NotAModel(
            "There is no such directory.",
            where=directory,
            found="a file" if directory.is_file() else None,
            next_step="Check the path: it must be the directory that holds the model.",
        )


def read_listing(path: Path) -> JsonObject:
    """Return an index file. Raises CorruptWeights for one that cannot be read."""
    return read_json_object(path, error=CorruptWeights, next_step=COMPLETE)


def read_adapter_index(directory: Path) -> ModelIndex:
    """Return the index of the weights of a PEFT adapter directory."""
    for kind, name in ADAPTER_WEIGHTS.items():
        if (directory / name).is_file():
            return _index(directory, kind, [name])
    raise NotAModel(
        "The directory holds no adapter weights.",
        where=directory,
        expected=" or ".join(ADAPTER_WEIGHTS.values()),
        next_step="Use the directory that PEFT's save_pretrained wrote.",
    )


def _require_agreement(index: ModelIndex, weight_map: Mapping[str, str], listing: Path) -> None:
    """Raise CorruptWeights unless the shards hold what their index file says."""
    stored = {name: entry.file for name, entry in index.tensors.items()}
    for name in sorted(stored.keys() | weight_map.keys()):
        if stored.get(name) != weight_map.get(name):
            raise CorruptWeights(
                "The index and the shards disagree about a tensor.",
                where=f"{listing}: {name}",
                expected=f"in {weight_map.get(name, 'no file')}, as the index says",
                found=f"in {stored.get(name, 'no file')}",
                next_step=COMPLETE,
            )


def _index(directory: Path, kind: WeightFormat, files: Iterable[str]) -> ModelIndex:
    tensors: dict[str, TensorEntry] = {}
    for file in files:
        for entry in entries_of(directory / file, kind, file):
            if entry.name in tensors:
                raise CorruptWeights(
                    "A tensor is in two files.",
                    where=f"{directory}: {entry.name}",
                    found=f"{tensors[entry.name].file} and {file}",
                    next_step=COMPLETE,
                )
            tensors[entry.name] = entry
    return ModelIndex(directory, kind, tensors)


def entries_of(path: Path, kind: WeightFormat, file: str) -> list[TensorEntry]:
    """Return the tensors of one weight file, called `file` below its model, in their order."""
    require_undisguised(path, text=False, error=CorruptWeights)
    found = read_header(path) if kind == "safetensors" else read_bin(path)
    return [
        TensorEntry(each.name, each.dtype, each.shape, file, each.offset, each.nbytes, each.stride)
        for each in found
    ]
