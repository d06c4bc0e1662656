"""A bound on how much longer a tokenizer may make a text before or after dividing it into tokens.

A tokenizer.json may replace a by aa forty times in a row: one letter then exceeds all memory, and
the library cannot be interrupted. So the file is inspected before it is loaded. Every step that
lengthens a text by more than a constant counts with the most that it makes of one letter. The
library accepts many steps without a `type`, so they are recognised by their fields.
"""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

from tasks.core.errors import NotAModel
from tasks.core.files.foreign import read_json_object

TOKENIZER_JSON = "tokenizer.json"
_PARTS = ("normalizer", "pre_tokenizer", "decoder")
_MAX_GROWTH = 4096
"""Twice that of ALBERT's tokenizer, which has the longest sequence of steps of the known ones."""
_BY_TYPE = {
    "ByteLevel": 2.0,  # a space, and each byte of a letter outside of ASCII, becomes two
    "BertNormalizer": 8.0,  # NFD, and spaces around each Chinese character
    "Lowercase": 1.5,
    "NFC": 3.0,
    "NFD": 3.0,  # https://unicode.org/faq/normalization.html, the worst of each form
    "NFKC": 11.0,
    "NFKD": 11.0,
}
_METASPACE = 2.0
"""Two alternating ones make some sixty percent more pieces each time."""
_BETWEEN_LETTERS = 3.0


def require_bounded_growth(model: Path) -> None:
    """Raise NotAModel if the steps of tokenizer.json can lengthen a text beyond the bound."""
    if not (model / TOKENIZER_JSON).is_file():
        return
    document = read_json_object(model / TOKENIZER_JSON)
    growth = 1.0
    for part in _PARTS:
        for step in _steps(document.get(part)):
            growth *= _growth(step, part)
    if growth > _MAX_GROWTH:
        raise NotAModel(
            "This tokenizer lengthens texts without limit.",
            where=model / TOKENIZER_JSON,
            expected=f"steps that together make a text at most {_MAX_GROWTH} times as long",
            found=f"up to {growth:.0e} times",
            next_step="Take the tokenizer of the base model.",
        )


def _steps(part: object) -> Iterator[dict[str, object]]:
    """Yield the steps of a part, including those nested in sequences."""
    waiting = [part]
    while waiting:
        step = waiting.pop()
        if isinstance(step, dict):
            yield step
            waiting += [value for value in step.values() if isinstance(value, list | dict)]
        elif isinstance(step, list):
            waiting += step


def _growth(step: dict[str, object], part: str) -> float:
    if "pattern" in step and isinstance(content := step.get("content"), str):
        return _of_replacing(step["pattern"], _length(content))
    if isinstance(charsmap := step.get("precompiled_charsmap"), str):
        return _of_charsmap(charsmap)
    if isinstance(before := step.get("prepend"), str):
        return 1.0 + _length(before)
    if "" in (step.get("suffix"), step.get("word_delimiter_token")):  # BPEDecoder, CTC
        return _BETWEEN_LETTERS
    if part == "pre_tokenizer" and "replacement" in step:
        return _METASPACE
    kind = step.get("type")
    return _BY_TYPE.get(kind, 1.0) if isinstance(kind, str) else 1.0


def _of_replacing(pattern: object, new_bytes: int) -> float:
    text = pattern.get("String") if isinstance(pattern, dict) else None
    if isinstance(text, str) and text:
        return max(1.0, new_bytes / _length(text))
    return 1.0 + new_bytes  # a regular expression may match between two letters


def _of_charsmap(charsmap: str) -> float:
    """Return the length of the longest replacement in a character map of sentencepiece.

    Format: the size of the trie in four bytes, the trie, and the replacements, each ended by a NUL
    (`PrecompileCharsMap`, https://github.com/google/sentencepiece/blob/master/src/builder.cc).
    """
    try:
        raw = base64.b64decode(charsmap)
    except (binascii.Error, ValueError):
        return 1.0  # the library rejects it too
    texts = raw[4 + int.from_bytes(raw[:4], "little") :]
    longest = max(map(len, texts.split(b"\0")))
    return max(1.0, longest)


def _length(text: str) -> int:
    return len(text.encode(errors="replace"))
