"""Which files of a model are its weights: the one decision, for directories and repositories.

As transformers looks: one file, else the index and the shards that the index names; safetensors
before `.bin`. What an index states is never guessed from names: shards may be called anything, and
a file that no index names is no part of the model. A set with missing files is passed over for a
whole one in the other format.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from tasks.core.errors import CorruptWeights, KawanUsahaError, NotAModel, UnsafeWeights
from tasks.core.files.foreign import JsonObject, leaves

WeightFormat = Literal["safetensors", "bin"]

SINGLE: dict[WeightFormat, str] = {
    "safetensors": "model.safetensors",
    "bin": "pytorch_model.bin",
}
LISTINGS = tuple(f"{name}.index.json" for name in SINGLE.values())
"""The index files of both formats."""

COMPLETE = "Download the directory again, or complete it."
SUFFIXES = (".safetensors", ".bin")


_LONGEST_NAME = 255
"""Of a file, on every file system in use."""


@dataclass(frozen=True)
class WeightFiles:
    """The files of one format that hold all weights; for shards, what their index states."""

    format: WeightFormat
    files: tuple[str, ...]
    listing: str | None = None
    weight_map: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The weight files and their index file."""
        return self.files if self.listing is None else (*self.files, self.listing)


def choose_weights(
    exists: Callable[[str], bool],
    read_listing: Callable[[str], JsonObject],
    *,
    where: object,
    present: Collection[str],
) -> WeightFiles:
    """Return the weight files of a model whose files `exists` tells of.

    read_listing returns an index file by its name; present is for the error. Raises NotAModel
    where there are none, CorruptWeights for an index that is malformed or of which files lack,
    UnsafeWeights for one that names a file outside the model.
    """
    incomplete: KawanUsahaError | None = None
    for kind, single in SINGLE.items():
        if exists(single):
            return WeightFiles(kind, (single,))
        listing = f"{single}.index.json"
        if not exists(listing):
            continue
        weight_map = _weight_map(read_listing(listing), f"{where}: {listing}")
        shards = tuple(sorted(set(weight_map.values())))
        missing = [shard for shard in shards if not exists(shard)]
        if not missing:
            return WeightFiles(kind, shards, listing, weight_map)
        if missing != list(shards):
            incomplete = incomplete or _incomplete(where, listing, missing)
    raise incomplete or _no_weights(where, present)


def _weight_map(document: JsonObject, where: str) -> dict[str, str]:
    weight_map = document.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptWeights("The index file has no weight_map.", where=where, next_step=COMPLETE)
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not shard or len(shard) > _LONGEST_NAME:
            raise CorruptWeights(
                "The index names no file for a tensor.",
                where=f"{where}: {name}",
                found=str(shard)[:100],
                next_step=COMPLETE,
            )
        _require_inside(where, shard)
    return {name: PurePosixPath(shard).as_posix() for name, shard in weight_map.items()}


def _require_inside(where: str, shard: str) -> None:
    """Raise UnsafeWeights for a name that leaves the directory.

    Only the name is judged: that a file of the directory is a symbolic link is how the Hub's cache
    stores every model.
    """
    if leaves(shard):
        raise UnsafeWeights(
            "The index names a file outside the model's directory.",
            where=where,
            found=shard,
            next_step="Do not use this model.",
        )


def _incomplete(where: object, listing: str, missing: list[str]) -> CorruptWeights:
    return CorruptWeights(
        "The index names files that are not there.",
        where=where,
        expected=f"all files that {listing} names",
        found=f"missing: {some(missing)}",
        next_step=COMPLETE,
    )


def _no_weights(where: object, present: Collection[str]) -> NotAModel:
    strays = [name for name in present if name.endswith(SUFFIXES) and "-of-" in name]
    if strays:
        return NotAModel(
            "There are shards of weights, but no index file that says which belong together.",
            where=where,
            expected=" or ".join(LISTINGS),
            found=some(strays),
            next_step="Copy the index file from where the shards came; transformers needs it, too.",
        )
    return NotAModel(
        "There are no weights that transformers can load.",
        where=where,
        expected="model.safetensors or pytorch_model.bin, whole or in shards with their index",
        found=some(present),
        next_step="Name the directory or revision that has them, or convert the model to "
        "safetensors first.",
    )


def some(names: Collection[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = sorted(names)[:8]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "nothing"
