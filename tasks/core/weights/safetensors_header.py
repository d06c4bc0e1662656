"""The header of a safetensors file: parsed as hostile input, and encoded.

Covers the format's own rules (https://github.com/huggingface/safetensors#format): the length, the
JSON, every tensor's dtype, shape and byte range, and that the ranges fill the file without gap or
overlap. Reads only the header, never a weight.

The invariant: whatever the bytes, the result is either entries that lie inside the file or
CorruptWeights.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tasks.core.errors import CorruptWeights
from tasks.core.files.foreign import is_no_text, repeated_name
from tasks.core.system.errors import names_path
from tasks.core.weights.dtypes import ITEM_BYTES, size_bytes

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
MAX_DIMENSIONS = 64
"""More than torch supports. Multiplying a million sizes would take hours."""
LENGTH_BYTES = 8
_ALIGNMENT = 8


@dataclass(frozen=True)
class HeaderEntry:
    """One tensor of a file; offset counts from the start of the file, in bytes.

    stride, in elements, is None for a contiguous tensor, which all are in safetensors.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    stride: tuple[int, ...] | None = None


def span_elements(shape: Sequence[int], stride: Sequence[int] | None) -> int:
    """Return how many elements of the file lie between a tensor's first and last, inclusive."""
    if stride is None or math.prod(shape) == 0:
        return math.prod(shape)
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def read_header(path: Path) -> list[HeaderEntry]:
    """Return the tensors of a safetensors file in the order of their bytes.

    Raises CorruptWeights for a file that is truncated or breaks the format.
    """
    file_bytes = path.stat().st_size
    with names_path(path), path.open("rb") as file:
        prefix = file.read(LENGTH_BYTES)
        if len(prefix) < LENGTH_BYTES:
            _refuse(path, "The file is too short to be safetensors.", f"{file_bytes} bytes")
        length = int.from_bytes(prefix, "little")
        if length > min(MAX_HEADER_BYTES, file_bytes - LENGTH_BYTES):
            _refuse(
                path,
                "The file is truncated or not safetensors: its header would be longer than the "
                "file or than the format allows.",
                f"{file_bytes} bytes",
            )
        raw = file.read(length)
    return parse_header(raw, path=path, file_bytes=file_bytes)


def parse_header(raw: bytes, *, path: Path, file_bytes: int) -> list[HeaderEntry]:
    """Return the tensors that a header describes, for a file of file_bytes; path is for errors."""
    data_start = LENGTH_BYTES + len(raw)
    document = _decode(raw, path)
    _require_texts(document.pop("__metadata__", None), path)
    entries = [_entry(name, value, data_start, path) for name, value in document.items()]
    entries.sort(key=lambda entry: (entry.offset, entry.nbytes))
    _require_filled(entries, data_start, file_bytes, path)
    return entries


def encode_header(entries: Iterable[HeaderEntry]) -> bytes:
    """Return the bytes before the data; the entries' offsets count from the data's start.

    transformers needs the metadata `{"format": "pt"}`.
    """
    document: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for entry in entries:
        document[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.offset, entry.offset + entry.nbytes],
        }
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _decode(raw: bytes, path: Path) -> dict[str, object]:
    try:
        document = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise CorruptWeights(
            "The header is not valid JSON.", where=path, found=error, next_step=_AGAIN
        ) from error
    if is_no_text(raw, document):
        _refuse(path, "The header holds half of a surrogate pair.", "no text")
    if not isinstance(document, dict):
        _refuse(path, "The header is not a JSON object.", type(document).__name__)
    return document


def _require_texts(metadata: object, path: Path) -> None:
    """Raise CorruptWeights for metadata that safetensors rejects: only strings are allowed."""
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse(path, "The header's __metadata__ is no object of strings.", repr(metadata)[:100])


def _no_number(text: str) -> NoReturn:
    """Raise for NaN and Infinity, which Python's JSON allows and safetensors does not."""
    raise ValueError(f"{text} is not a JSON number")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError(f"{repeated_name(pairs)!r:.100} occurs twice")
    return document


def _entry(name: str, value: object, data_start: int, path: Path) -> HeaderEntry:
    place = f"{path}: {name}"
    if not isinstance(value, dict):
        _refuse(place, "A tensor's description is not a JSON object.", type(value).__name__)
    dtype = value.get("dtype")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise CorruptWeights(
            "A tensor has an unknown dtype.",
            where=place,
            expected=", ".join(ITEM_BYTES),
            found=dtype,
            next_step="Convert the model to one of these types first.",
        )
    sizes, begin, end = _extent(value, place)
    needed = size_bytes(dtype, sizes)
    if end - begin != needed:
        raise CorruptWeights(
            "A tensor's byte range does not fit its shape and dtype.",
            where=place,
            expected=f"{needed} bytes for {dtype} {list(sizes)}",
            found=f"{end - begin} bytes",
            next_step=_AGAIN,
        )
    return HeaderEntry(name, dtype, sizes, data_start + begin, needed)


def _extent(value: dict[str, object], place: str) -> tuple[tuple[int, ...], int, int]:
    """Return a tensor's shape, and the begin and end of its byte range."""
    shape, offsets = value.get("shape"), value.get("data_offsets")
    sizes, span = _counts(shape), _counts(offsets)
    if sizes is None:
        _refuse(place, "A tensor's shape is not a list of sizes.", repr(shape)[:100])
    if span is None or len(span) != 2:
        _refuse(place, "A tensor's byte range is not two offsets.", repr(offsets)[:100])
    return sizes, span[0], span[1]


def _counts(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        return None
    if any(isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < 2**63 for n in value):
        return None
    return tuple(value)


def _require_filled(
    entries: list[HeaderEntry], data_start: int, file_bytes: int, path: Path
) -> None:
    """Raise CorruptWeights unless the ranges, in order, cover the data exactly once."""
    position = data_start
    for entry in entries:
        if entry.offset != position:
            kind = "overlap" if entry.offset < position else "leave a gap"
            _refuse(
                f"{path}: {entry.name}", f"The byte ranges of two tensors {kind}.", entry.offset
            )
        position += entry.nbytes
    if position != file_bytes:
        raise CorruptWeights(
            "The file is truncated." if position > file_bytes else "The file is too long.",
            where=path,
            expected=f"{position} bytes, as its header says",
            found=f"{file_bytes} bytes",
            next_step=_AGAIN,
        )


def _refuse(where: object, what: str, found: object) -> NoReturn:
    raise CorruptWeights(what, where=where, found=found, next_step=_AGAIN)


_AGAIN = "Download or save this file again."
