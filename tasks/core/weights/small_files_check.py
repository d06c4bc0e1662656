"""Checks of a model's files beside the weights: each must be what its name says.

Reads small JSON files whole, of large ones the ends, and of a file without a header its first 512
bytes. Finds Git LFS pointers, web pages, truncated files, and links out of the directory.
"""

from pathlib import Path

from tasks.core.errors import NotAModel, UnsafeName
from tasks.core.files.foreign import (
    JsonObject,
    begins_with_bom,
    read_json_object,
    read_whole,
    require_undisguised,
)
from tasks.core.model.code import require_code_inside
from tasks.core.model.config import CONFIG_FILE, read_config
from tasks.core.system.errors import names_path
from tasks.core.weights.companion_kinds import TERMS, TOKENIZER_FILES, companion_kind
from tasks.core.weights.companions import file_names
from tasks.core.weights.index import require_directory
from tasks.core.weights.weight_files import LISTINGS

_PARSED_BYTES = 1 << 18
_JSON_FILES = (
    CONFIG_FILE,
    "generation_config.json",
    *(name for name in TOKENIZER_FILES if name.endswith(".json")),
)
"""What transformers parses when it loads a model."""

_NEVER_EMPTY = frozenset(name for name in TOKENIZER_FILES if name.endswith((".model", ".txt")))


def check_small_files(directory: Path) -> JsonObject:
    """Return config.json of a directory whose files beside the weights are what they seem.

    Raises NotAModel for a Git LFS pointer, a web page, a truncated file or JSON that transformers
    cannot read, UntrustedCode as `require_code_inside`, UnsafeName for a link out of the directory.
    """
    require_directory(directory)
    config = read_config(directory)
    require_code_inside(directory)
    for name in file_names(directory):
        path = directory / name
        if path.is_symlink() and companion_kind(name) is not None:
            _require_own(path, directory)
        if name in _JSON_FILES:
            _require_json(path)
        elif name in LISTINGS:
            _require_no_bom(path)
            _require_metadata(path)
        elif name in _NEVER_EMPTY or (_may_be_empty(name) and path.stat().st_size):
            require_undisguised(path, text=True)
        if name == "tokenizer.model":
            _require_whole_sentencepiece(path)
    return config


def _require_own(path: Path, directory: Path) -> None:
    """Raise UnsafeName for a link by which a foreign file would be copied and published.

    Somebody else's repository can hold such links, for example to `~/.netrc`. The Hub's cache links
    each file of a snapshot to its blob; a vocabulary (`.model`) may lie elsewhere, because a file
    that is not a vocabulary fails to load.
    """
    if path.suffix == ".model":
        return
    here, lies = directory.resolve(), path.resolve()
    if not any(lies.is_relative_to(place) for place in (here, here.parent.parent / "blobs")):
        raise UnsafeName(
            "A file beside the weights is a link out of the model's directory.",
            where=path,
            found=lies,
            next_step="If the file belongs to the model, replace the link with a copy.",
        )


def _may_be_empty(name: str) -> bool:
    """Return whether a file may be empty (code), and is otherwise checked as text."""
    return companion_kind(name) not in (None, TERMS)


def _require_json(path: Path) -> None:
    """Raise NotAModel unless the file is JSON; only the ends of a large one are read."""
    _require_no_bom(path)
    if path.stat().st_size <= _PARSED_BYTES:
        read_json_object(path)
        return
    require_undisguised(path, text=True)
    with names_path(path), path.open("rb") as file:
        first = file.read(64).lstrip()[:1]
        file.seek(-64, 2)
        last = file.read().rstrip()[-1:]
    if (first, last) != (b"{", b"}"):
        raise NotAModel(
            f"{path.name} is not a complete JSON object.",
            where=path,
            found=f"it begins with {first!r} and ends with {last!r}",
            next_step="Download the file again from its source.",
        )


def _require_metadata(index: Path) -> None:
    """Raise NotAModel for an index without metadata, which transformers fails on."""
    if not isinstance(read_json_object(index).get("metadata"), dict):
        raise NotAModel(
            f"{index.name} has no metadata, which transformers needs.",
            where=index,
            next_step='Add `"metadata": {}` to it, or download the file again from its source.',
        )


def _require_no_bom(path: Path) -> None:
    if begins_with_bom(path):
        raise NotAModel(
            f"{path.name} begins with a byte order mark, which transformers cannot read.",
            where=path,
            expected="UTF-8 without a byte order mark",
            next_step=f"Remove the mark: sed -i '1s/^\\xEF\\xBB\\xBF//' {path.name}",
        )


def _require_whole_sentencepiece(path: Path) -> None:
    """Raise NotAModel for a truncated sentencepiece model.

    A protocol buffer is a sequence of fields; those of a sentencepiece model are a tag, a length
    and that many bytes. Source: protobuf.dev/programming-guides/encoding.
    """
    data = read_whole(path)
    position, end = 0, len(data)
    while position + 1 < end and data[position] & 7 == 2:  # wire type 2: a length, then bytes
        length, position = data[position + 1], position + 2
        shift = 7
        # Seven bits per byte; the eighth means that more follow. A length has at most ten bytes.
        while length >> shift and position < end and shift < 70:
            length = length & ((1 << shift) - 1) | data[position] << shift
            shift, position = shift + 7, position + 1
        position += length
    if position > len(data):
        raise NotAModel(
            f"{path.name} is truncated.",
            where=path,
            expected=f"at least {position} bytes",
            found=f"{len(data)} bytes",
            next_step="Download the file again from its source.",
        )
