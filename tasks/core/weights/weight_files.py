"""Which files of a model are its weights: the one decision, for directories and repositories.

As transformers does it: a single file, else the index and the shards that it names; safetensors
before `.bin`. Nothing is guessed from file names: shards may have any name, and a file that no
index names is not part of the model. An incomplete set is skipped in favour of a complete one in
the other format.
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
"""Characters of a file name, on every file system in use."""


@dataclass(frozen=True)
class WeightFiles:
    """The files of one format that hold all weights; for shards, also their index."""

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
    """Return the weight files of a model, given a function that says which files exist.

    read_listing returns an index file by its name; present is for the error. Raises NotAModel
    where there are no weights, CorruptWeights for an index that is malformed or names missing
    files, UnsafeWeights for one that names a file outside the model.
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
    """Raise UnsafeWeights for a name that leads out of the directory.

    Only the name is checked: files that are symbolic links are normal, the Hub's cache stores every
    model that way.
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
            "There are weight shards, but no index file that says which belong together.",
            where=where,
            expected=" or ".join(LISTINGS),
            found=some(strays),
            next_step="Copy the index file from the source of the shards; transformers needs it.",
        )
    return NotAModel(
        "There are no weights that transformers can load.",
        where=where,
        expected="model.safetensors or pytorch_model.bin, in one file or in shards with an index",
        found=some(present),
        next_step="Use the directory or revision that has them, or convert the model to "
        "safetensors first.",
    )


def some(names: Collection[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = sorted(names)[:8]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "nothing"
