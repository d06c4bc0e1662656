"""The files beside the weights: configuration, tokenizer, code. Chosen first, then copied.

Covers the one list of what belongs to a model besides its weights, the dtype field of its
configuration, and copies that are hashed in the same pass. Does not interpret tokenizers or code.

The invariant: a companion is a copy (never a link into the input), whole and on the disk.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tasks.core.errors import NotAModel
from tasks.core.files.copies import CHUNK_BYTES
from tasks.core.files.digests import FileDigest
from tasks.core.files.durable import write_atomically
from tasks.core.files.foreign import JsonObject
from tasks.core.files.listing import matching, refuse
from tasks.core.model.edit_fingerprint import FILE as FINGERPRINT
from tasks.core.model.template_record import TEMPLATE_RECORD
from tasks.core.recipe import Dtype
from tasks.core.system.errors import names_path
from tasks.core.weights.index import ADAPTER_WEIGHTS
from tasks.core.weights.tokenizer_check import require_tokenizer
from tasks.core.weights.weight_files import LISTINGS

Companions = Mapping[str, Path | bytes]
"""By name in the result: a file to copy, or the content itself."""

_VOCABULARIES = (
    *("tokenizer.model", "tokenizer.json", "vocab.json", "vocab.txt"),
    *("spiece.model", "sentencepiece.bpe.model"),
)
TOKENIZER_FILES = (
    *_VOCABULARIES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""What transformers' tokenizers read and write, sentencepiece's model first; besides these,
`additional_chat_templates/*.jinja`."""

CHAT_TEMPLATES = re.compile(r"chat_template\.(jinja|json)|additional_chat_templates/[^/]+\.jinja")
_CONFIGURATIONS = (
    *("config.json", "generation_config.json"),
    *("preprocessor_config.json", "processor_config.json"),
    TEMPLATE_RECORD,
)


@dataclass(frozen=True)
class Kind:
    """Files beside the weights, by their names: all of them go wherever the model goes.

    to_hub is whether they are published, too, and why_not the reason where they are not.
    """

    names: re.Pattern[str]
    to_hub: Literal["always", "where a configuration names them", "never"]
    why_not: str = ""


READ_BY_NAME = Kind(
    re.compile(
        "|".join(
            (
                *map(re.escape, (*TOKENIZER_FILES, *_CONFIGURATIONS)),
                r"[^/.][^/]*\.tiktoken",
                CHAT_TEMPLATES.pattern,
            )
        )
    ),
    "always",
)
OF_THESE_WEIGHTS = Kind(re.compile(re.escape(FINGERPRINT)), "always")
"""Goes with a model that is copied as it is; not true of one that is made from it."""
TERMS = Kind(
    re.compile(
        r"(LICEN[CS]ES?|COPYING|NOTICES?|USE_POLICY|USAGE_POLICY)([-_. ][\w .()-]+)?",
        re.IGNORECASE,
    ),
    "always",
)
CODE = Kind(
    re.compile(r"(?:[^/.][^/]*/)*[^/.][^/]*\.py"),
    "where a configuration names them",
    "no configuration names this code",
)
OTHER = Kind(
    re.compile(r"[^/.][^/]*\.(json|txt|model|spm|bpe)"),
    "never",
    "no model is loaded from such a file",  # or none that is published: it may hold anything
)
_KINDS = (READ_BY_NAME, OF_THESE_WEIGHTS, TERMS, CODE, OTHER)
"""The one list: a file is of the first kind that its name fits."""

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = (ADAPTER_CONFIG, *ADAPTER_WEIGHTS.values())
"""A PEFT adapter's own files. Beside a model they make a loader put the adapter on it."""

_LEFTOVERS = frozenset(
    (
        *LISTINGS,  # written anew, or chosen with the weights
        *ADAPTER_FILES,
        "manifest.json",  # of the store: the input's own identity
        "training.json",
        "trainer_state.json",
        "all_results.json",
        "train_results.json",
        "eval_results.json",
        "requirements.txt",
    )
)


def kind_of(name: str) -> Kind | None:
    """Return what a file below a model directory is, or None where it does not go with the model.

    The one list, for download, merge, edit, fuse and publish: configuration, tokenizer, chat
    templates, code, licences. Not the weights, which their index names, nor the model card, which
    tells of one model alone, nor what a training left.
    """
    if PurePosixPath(name).name in _LEFTOVERS or "__pycache__" in name:
        return None
    return next((kind for kind in _KINDS if kind.names.fullmatch(name)), None)


def belongs_to_model(name: str) -> bool:
    """Return whether the file of this name below a model directory goes wherever the model goes."""
    return kind_of(name) is not None


def is_of_tokenizer(name: str) -> bool:
    """Return whether the file belongs to the tokenizer, whichever model brings it."""
    return name in TOKENIZER_FILES or bool(CHAT_TEMPLATES.fullmatch(name))


def companion_files(directory: Path) -> dict[str, Path]:
    """Return the files of a model directory that go into a model made from it, by name.

    See `belongs_to_model`; but for what is true of the weights alone that lie there.
    """
    kinds = {name: kind_of(name) for name in file_names(directory)}
    return {n: directory / n for n, kind in kinds.items() if kind not in (None, OF_THESE_WEIGHTS)}


def left_behind(names: Iterable[str]) -> tuple[str, ...]:
    """Return which of a model's files make up an adapter of its own, which does not go with it."""
    return tuple(sorted(name for name in names if name in ADAPTER_FILES))


def file_names(directory: Path) -> list[str]:
    """Return the files below a directory, sorted; hidden ones (download caches) are left out.

    What links lead to is not entered: see `linked_directories`.
    """
    names = []
    for place, _, files in _visible(directory):
        here = (Path(place, name) for name in files if not name.startswith("."))
        names += [path.relative_to(directory).as_posix() for path in here if path.is_file()]
    return sorted(names)


def linked_directories(directory: Path) -> list[str]:
    """Return the links below a directory that lead to directories, whose files are not told of.

    A loader follows them, also to hidden files.
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
    """Return a config.json that says what the new weights are.

    The dtype is set under each name that the file uses already: `dtype` (transformers 5) or
    `torch_dtype` (before, and read by all versions), which is also the choice where none is there.
    """
    names = [name for name in ("dtype", "torch_dtype") if name in config] or ["torch_dtype"]
    changed: JsonObject = {**config, **dict.fromkeys(names, dtype)}
    if vocab_size is not None and "vocab_size" in config:
        changed["vocab_size"] = vocab_size
    return json_bytes(changed)


def json_bytes(document: JsonObject) -> bytes:
    """Return a JSON file for people to read."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def tokenizer_files(directory: Path) -> dict[str, Path]:
    """Return the tokenizer's files. Raises NotAModel unless they are whole, with a vocabulary."""
    names = [*TOKENIZER_FILES, *_additional_templates(directory)]
    found = {name: directory / name for name in names if (directory / name).is_file()}
    require_vocabulary(found, where=directory)
    require_tokenizer(directory)
    return found


def require_vocabulary(names: Iterable[str], *, where: Path) -> None:
    """Raise NotAModel when there is no tokenizer's vocabulary among the files."""
    if not has_vocabulary(names):
        raise NotAModel(
            "The directory has no tokenizer.",
            where=where,
            expected=" or ".join(_VOCABULARIES),
            next_step="Copy the tokenizer's files into it; a delta of the same vocabulary may use "
            "those of its base.",
        )


def has_vocabulary(names: Iterable[str]) -> bool:
    """Return whether there is a tokenizer's vocabulary among the files."""
    return any(name in _VOCABULARIES for name in names)


def _additional_templates(directory: Path) -> list[str]:
    found = matching(directory, "additional_chat_templates/*.jinja")
    return [path.relative_to(directory).as_posix() for path in found]


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


def _copy(source: Path, target: Path) -> FileDigest:
    sha256, size = hashlib.sha256(), 0
    target.unlink(missing_ok=True)
    with names_path(target), source.open("rb") as src, target.open("wb") as dst:
        while chunk := src.read(CHUNK_BYTES):
            dst.write(chunk)
            sha256.update(chunk)
            size += len(chunk)
    return FileDigest(size, sha256.hexdigest())
