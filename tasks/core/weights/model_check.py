"""Whether a directory holds a whole model: the one check, from headers and small files alone.

For every stage that takes or gives a model. Reads no weight, and of a file without a header its
first 512 bytes; 13B are checked in some milliseconds. Knows the tensors of the LLaMA family by name
(`llama_layout`); of other families embedding and layers. Does not know which class transformers
takes.

The invariant: what passes has each file that its index names, at its size, none of them a pointer
or a web page, and the tensors that its configuration promises: none missing, none too many.
"""

import re
from collections.abc import Iterator, Mapping
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
from tasks.core.model.config import FILE as CONFIG
from tasks.core.model.config import read_config, ties_embeddings
from tasks.core.system.errors import names_path
from tasks.core.weights.companions import (
    ADAPTER_CONFIG,
    TERMS,
    TOKENIZER_FILES,
    file_names,
    kind_of,
)
from tasks.core.weights.index import ModelIndex, read_index, require_directory
from tasks.core.weights.llama_layout import HEAD, RECOMPUTED, promised_tensors
from tasks.core.weights.weight_files import LISTINGS

_PARSED_BYTES = 1 << 18
_JSON_FILES = (
    CONFIG,
    "generation_config.json",
    *(name for name in TOKENIZER_FILES if name.endswith(".json")),
)
"""What transformers parses when it loads a model."""

_NEVER_EMPTY = frozenset(name for name in TOKENIZER_FILES if name.endswith((".model", ".txt")))
_EMBEDDING = re.compile(
    r"^(?:model\.(?:decoder\.)?|transformer\.|gpt_neox\.)?"
    r"(?:embed_tokens|wte|word_embeddings|embed_in)\.weight$"
)
"""The embedding of the model itself; a part that sees or speaks has one of another size."""
_PACKED = (".qweight", ".qzeros", ".g_idx", ".weight_packed", ".absmax", ".SCB")
_LAYER = re.compile(r"^(?:model\.layers|transformer\.h|gpt_neox\.layers|h)\.(\d+)\.")
_SHOWN = 6


def check_model(directory: Path, *, in_place: bool = False) -> ModelIndex:
    """Return the index of a whole model.

    in_place: the directory will be loaded as it is, so that an adapter inside it would be loaded,
    too, and is refused. Raises NotAModel, with all that is wrong with the weights; CorruptWeights
    and UnsafeWeights as `read_index`.
    """
    config = check_small_files(directory)
    if in_place:
        require_no_adapter_inside(directory)
    index = read_index(directory)
    require_promised(config, index)
    return index


def check_small_files(directory: Path) -> JsonObject:
    """Return config.json of a directory whose files beside the weights are what they seem.

    Raises NotAModel for a pointer, a web page, half a file or JSON that transformers cannot read,
    UntrustedCode as `require_code_inside`, UnsafeName as `_require_own`.
    """
    require_directory(directory)
    config = read_config(directory)
    require_code_inside(directory)
    for name in file_names(directory):
        path = directory / name
        if path.is_symlink() and kind_of(name) is not None:
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
    """Raise UnsafeName for a link by which another file would be copied, and published, as its own.

    Somebody else's repository can hold such links, to `~/.netrc` for one. The Hub's cache links
    each file of a snapshot to its blob; a vocabulary (`.model`) may lie elsewhere, for what is none
    is not loaded.
    """
    if path.suffix == ".model":
        return
    here, lies = directory.resolve(), path.resolve()
    if not any(lies.is_relative_to(place) for place in (here, here.parent.parent / "blobs")):
        raise UnsafeName(
            "A file beside the weights is a link that leads out of the model's directory.",
            where=path,
            found=lies,
            next_step="Copy the file in its place, if it belongs to the model.",
        )


def has_adapter(directory: Path) -> bool:
    """Return whether a loader would put an adapter of this directory on its model."""
    return (directory / ADAPTER_CONFIG).is_file()


def require_no_adapter_inside(directory: Path) -> None:
    """Raise NotAModel where a loader would put an adapter of the same directory on the model."""
    if has_adapter(directory):
        raise NotAModel(
            "The directory holds a model and an adapter: a loader would put the one on the other.",
            where=directory,
            found=ADAPTER_CONFIG,
            next_step=f"Move {ADAPTER_CONFIG} and adapter_model.* to a directory of their own; "
            "`kawan-usaha fuse MODEL ADAPTER OUT` makes one model of both.",
        )


def require_promised(config: Mapping[str, object], index: ModelIndex) -> None:
    """Raise NotAModel unless the weights are those that the configuration promises."""
    problems = tuple(problems_of(config, index))
    if problems:
        more = len(problems) - _SHOWN
        raise NotAModel(
            "The weights are not those that config.json describes.",
            where=index.directory,
            expected="each tensor of the configuration, in its shape, and no other",
            found="; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else ""),
            next_step="Take config.json and all weight files from the same place and revision.",
        )


def require_unquantized(config: Mapping[str, object], index: ModelIndex) -> None:
    """Raise NotAModel for packed integers, which no sum, cast or edit is defined for."""
    packed = _packed(index)
    if config.get("quantization_config") or packed:
        raise NotAModel(
            "The model is quantized: its weights cannot be added to, cast or edited.",
            where=index.directory / CONFIG,
            found="quantization_config" if config.get("quantization_config") else packed,
            next_step="Use the model in 16 or 32 bits.",
        )


def problems_of(config: Mapping[str, object], index: ModelIndex) -> Iterator[str]:
    """Yield how the tensors on the disk differ from those that the configuration promises."""
    if not config.get("model_type") and not config.get("auto_map"):
        yield f"{CONFIG} names no model_type, so that no loader knows the class"
    if config.get("quantization_config"):
        return  # the names and shapes are those of its method
    if packed := _packed(index):
        yield f"{packed} holds packed integers, but {CONFIG} has no quantization_config"
        return
    promised = promised_tensors(config)
    found = {name: entry.shape for name, entry in index.tensors.items()}
    if promised is None:
        yield from _general_problems(config, found)
        return
    optional = {HEAD} if ties_embeddings(config) else set()
    for name in sorted(promised.keys() - found.keys()):
        yield f"{name} is missing"
    for name in sorted(found.keys() - promised.keys() - optional):
        if not name.endswith(RECOMPUTED):
            yield f"{name} belongs to no module"
    for name in sorted(promised.keys() & found.keys()):
        if promised[name] != found[name]:
            yield f"{name} has shape {list(found[name])} instead of {list(promised[name])}"


def _general_problems(
    config: Mapping[str, object], found: Mapping[str, tuple[int, ...]]
) -> Iterator[str]:
    """Yield what names that most families share tell of vocabulary and layers."""
    vocab = config.get("vocab_size")
    for name, shape in found.items():
        if _EMBEDDING.match(name) and isinstance(vocab, int) and shape[:1] != (vocab,):
            yield f"{name} has {shape[0] if shape else 0} rows, but vocab_size is {vocab}"
    there = {int(match[1]) for name in found if (match := _LAYER.match(name))}
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    if not there or not isinstance(layers, int):
        return
    extra = config.get("num_nextn_predict_layers")
    allowed = layers + (extra if isinstance(extra, int) else 0)
    if missing := sorted(set(range(layers)) - there):
        yield f"layer {missing[0]} is missing of {layers}"
    if max(there) >= allowed:
        yield f"layer {max(there)} is there, but {CONFIG} has {layers} layers"


def _may_be_empty(name: str) -> bool:
    """Return whether a file of the model may hold nothing (code), or anything (a licence)."""
    return kind_of(name) not in (None, TERMS)


def _packed(index: ModelIndex) -> str | None:
    return next((name for name in index.tensors if name.endswith(_PACKED)), None)


def _require_json(path: Path) -> None:
    """Raise NotAModel unless transformers can parse the file; a large one is judged by its ends."""
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
            f"{path.name} is not a whole JSON object.",
            where=path,
            found=f"it begins with {first!r} and ends with {last!r}",
            next_step="Take the file from where it came.",
        )


def _require_metadata(index: Path) -> None:
    """Raise NotAModel for an index without metadata, which transformers cannot read."""
    if not isinstance(read_json_object(index).get("metadata"), dict):
        raise NotAModel(
            f"{index.name} has no metadata, and transformers cannot read it so.",
            where=index,
            next_step='Add `"metadata": {}` to it, or take the file from where it came.',
        )


def _require_no_bom(path: Path) -> None:
    if begins_with_bom(path):
        raise NotAModel(
            f"{path.name} begins with a byte order mark, and transformers cannot read it so.",
            where=path,
            expected="UTF-8 without a byte order mark",
            next_step=f"Remove the mark: sed -i '1s/^\\xEF\\xBB\\xBF//' {path.name}",
        )


def _require_whole_sentencepiece(path: Path) -> None:
    """Raise NotAModel for half of a sentencepiece model.

    A protocol buffer is a row of fields, and those of a sentencepiece model are a tag, a length and
    as many bytes. Source: protobuf.dev/programming-guides/encoding.
    """
    data = read_whole(path)
    position, end = 0, len(data)
    while position + 1 < end and data[position] & 7 == 2:  # wire type 2: a length, then bytes
        length, position = data[position + 1], position + 2
        shift = 7
        # Seven bits a byte, the eighth says: more. Ten bytes are the most that a length may have.
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
            next_step="Take the file from where it came.",
        )
