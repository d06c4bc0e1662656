"""The files beside the weights: configuration, tokenizer, code. Selected first, then copied.

Covers which of them lie in a directory, the dtype field of the configuration, and copies that are
hashed in the same pass. Does not interpret tokenizers or code.

The invariant: a companion is a copy (never a link into the input), complete and on the disk.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tasks.core.errors import NotAModel
from tasks.core.files.copies import CHUNK_BYTES
from tasks.core.files.digests import FileDigest
from tasks.core.files.durable import write_atomically
from tasks.core.files.foreign import JsonObject
from tasks.core.files.listing import matching, refuse
from tasks.core.recipe import Dtype
from tasks.core.system.errors import names_path
from tasks.core.weights.companion_kinds import (
    OF_THESE_WEIGHTS,
    TOKENIZER_FILES,
    VOCABULARIES,
    companion_kind,
    has_vocabulary,
)
from tasks.core.weights.tokenizer_check import require_tokenizer

Companions = Mapping[str, Path | bytes]
"""By the name in the result: a file to copy, or the content itself."""


def companion_files(directory: Path) -> dict[str, Path]:
    """Return the files of a model directory that go into a model made from it, by name.

    All that belong to the model, except those that describe its very weights.
    """
    kinds = {name: companion_kind(name) for name in file_names(directory)}
    return {n: directory / n for n, kind in kinds.items() if kind not in (None, OF_THESE_WEIGHTS)}


def file_names(directory: Path) -> list[str]:
    """Return the files below a directory, sorted, without hidden ones (download caches).

    Links to directories are not followed: see `linked_directories`.
    """
    names = []
    for place, _, files in _visible(directory):
        here = (Path(place, name) for name in files if not name.startswith("."))
        names += [path.relative_to(directory).as_posix() for path in here if path.is_file()]
    return sorted(names)


def linked_directories(directory: Path) -> list[str]:
    """Return the links to directories below a directory, which `file_names` does not follow.

    A loader does follow them, also to hidden files.
    """
    found = [
        path.relative_to(directory).as_posix()
        for place, below, _ in _visible(directory)
        for path in (Path(place, name) for name in below)
        if path.is_symlink()
    ]
    return sorted(found)


def _visible(directory: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for place, below, files in os.walk(directory, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        yield place, below, files


def config_with(config: JsonObject, dtype: Dtype, vocab_size: int | None) -> bytes:
    """Return a config.json that describes the new weights.

    The dtype is set under each name that the file already uses: `dtype` (transformers 5) or
    `torch_dtype` (before, and read by all versions), which is also the default.
    """
    names = [name for name in ("dtype", "torch_dtype") if name in config] or ["torch_dtype"]
    changed: JsonObject = {**config, **dict.fromkeys(names, dtype)}
    if vocab_size is not None and "vocab_size" in config:
        changed["vocab_size"] = vocab_size
    return json_bytes(changed)


def json_bytes(document: JsonObject) -> bytes:
    """Return the document as an indented JSON file."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def tokenizer_files(directory: Path) -> dict[str, Path]:
    """Return the tokenizer's files. Raises NotAModel unless they load and include a vocabulary."""
    names = [*TOKENIZER_FILES, *_additional_templates(directory)]
    found = {name: directory / name for name in names if (directory / name).is_file()}
    require_vocabulary(found, where=directory)
    require_tokenizer(directory)
    return found


def require_vocabulary(names: Iterable[str], *, where: Path) -> None:
    """Raise NotAModel when no tokenizer's vocabulary is among the files."""
    if not has_vocabulary(names):
        raise NotAModel(
            "The directory has no tokenizer.",
            where=where,
            expected=" or ".join(VOCABULARIES),
            next_step="Copy the tokenizer's files into it; a delta with the same vocabulary can "
            "use those of its base.",
        )


def _additional_templates(directory: Path) -> list[str]:
    found = matching(directory, "additional_chat_templates/*.jinja")
    return [path.relative_to(directory).as_posix() for path in found]


def write_companions(out: Path, companions: Companions) -> dict[str, FileDigest]:
    """Write all companions under out and return their digests."""
    digests = {}
    for name, source in companions.items():
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            write_atomically(target, source)
            digests[name] = FileDigest(len(source), hashlib.sha256(source).hexdigest())
        else:
            digests[name] = _copy(source, target)
    return digests


def companion_bytes(companions: Companions) -> int:
    """Return the bytes that the companions take."""
    return sum(
        len(source) if isinstance(source, bytes) else source.stat().st_size
        for source in companions.values()
    )


def _copy(source: Path, target: Path) -> FileDigest:
    sha256, size = hashlib.sha256(), 0
    target.unlink(missing_ok=True)
    with names_path(target), source.open("rb") as src, target.open("wb") as dst:
        while chunk := src.read(CHUNK_BYTES):
            dst.write(chunk)
            sha256.update(chunk)
            size += len(chunk)
    return FileDigest(size, sha256.hexdigest())
