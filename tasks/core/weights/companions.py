"""The files beside the weights: configuration, tokenizer, code. Chosen first, then copied.

Covers which files a model directory needs besides its weights, the dtype field of its
configuration, and copies that are hashed in the same pass. Does not interpret tokenizers or code.

The invariant: a companion is a copy (never a link into the input), whole and on the disk.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from tasks.core.errors import NotAModel
from tasks.core.files import CHUNK_BYTES, FileDigest, write_atomically
from tasks.core.recipe import Dtype
from tasks.core.weights.index import ModelIndex

Companions = Mapping[str, Path | bytes]
"""By name in the result: a file to copy, or the content itself."""

JsonObject = dict[str, object]

TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""What transformers' tokenizers read and write, sentencepiece's model first."""

_VOCABULARIES = ("tokenizer.model", "tokenizer.json", "vocab.json", "vocab.txt")
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".msgpack", ".h5", ".gguf", ".onnx")
_NOT_OF_THE_MODEL = (
    "manifest.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
"""The store's manifest is the input's own identity; the index files are written anew."""


def read_config(directory: Path) -> JsonObject:
    """Return config.json. Raises NotAModel when it is missing or no JSON object."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise NotAModel(
            "The directory has no config.json.",
            where=directory,
            next_step="Give the directory that holds the model itself.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise NotAModel("config.json is not valid JSON.", where=path, found=error) from error
    if not isinstance(config, dict):
        raise NotAModel(
            "config.json is not a JSON object.", where=path, found=type(config).__name__
        )
    return config


def require_unquantized(config: JsonObject, directory: Path) -> None:
    """Raise NotAModel for packed integers, which no sum over weights is defined for."""
    if config.get("quantization_config"):
        raise NotAModel(
            "The model is quantized: its weights cannot be added to or cast.",
            where=directory / "config.json",
            found="quantization_config",
            next_step="Use the model in 16 or 32 bits.",
        )


def config_with(config: JsonObject, dtype: Dtype, vocab_size: int | None) -> bytes:
    """Return a config.json that says what the new weights are.

    The dtype is set under each name that the file uses already: `dtype` (transformers 5) or
    `torch_dtype` (before, and read by all versions), which is also the choice where none is there.
    """
    names = [name for name in ("dtype", "torch_dtype") if name in config] or ["torch_dtype"]
    changed: JsonObject = {**config, **dict.fromkeys(names, dtype)}
    if vocab_size is not None and "vocab_size" in config:
        changed["vocab_size"] = vocab_size
    return (json.dumps(changed, indent=2, ensure_ascii=False) + "\n").encode()


def tokenizer_files(directory: Path) -> dict[str, Path]:
    """Return the tokenizer's files. Raises NotAModel when there is no vocabulary among them."""
    found = {name: directory / name for name in TOKENIZER_FILES if (directory / name).is_file()}
    if not any(name in found for name in _VOCABULARIES):
        raise NotAModel(
            "The directory has no tokenizer, and the result takes its tokenizer from there.",
            where=directory,
            expected=" or ".join(_VOCABULARIES),
            next_step="Copy the tokenizer's files into it; a delta of the same vocabulary may use "
            "those of its base.",
        )
    return found


def all_but_weights(index: ModelIndex) -> dict[str, Path]:
    """Return every file of a model directory that is no weight: an edited model stays whole.

    Hidden files and directories (download caches) and Python's bytecode are left out.
    """
    root = index.directory
    companions: dict[str, Path] = {}
    for directory, below, names in os.walk(root, followlinks=False):
        below[:] = sorted(name for name in below if not _is_debris(name))
        for name in sorted(names):
            path = Path(directory, name)
            relative = path.relative_to(root).as_posix()
            if not _is_debris(name) and not _is_weight(relative, index) and path.is_file():
                companions[relative] = path
    return companions


def write_companions(out: Path, companions: Companions) -> dict[str, FileDigest]:
    """Write them all under out and return their digests."""
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
    """Return the room that the companions need."""
    return sum(
        len(source) if isinstance(source, bytes) else source.stat().st_size
        for source in companions.values()
    )


def _is_debris(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


def _is_weight(relative: str, index: ModelIndex) -> bool:
    suffixes = relative.endswith(_WEIGHT_SUFFIXES)
    return suffixes or relative in index.files or relative in _NOT_OF_THE_MODEL


def _copy(source: Path, target: Path) -> FileDigest:
    sha256, size = hashlib.sha256(), 0
    target.unlink(missing_ok=True)
    with source.open("rb") as src, target.open("wb") as dst:
        while chunk := src.read(CHUNK_BYTES):
            dst.write(chunk)
            sha256.update(chunk)
            size += len(chunk)
        dst.flush()
        os.fsync(dst.fileno())
    return FileDigest(size, sha256.hexdigest())
