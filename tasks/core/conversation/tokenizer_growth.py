"""How much longer a tokenizer may make a text before it cuts it into tokens, or after.

A tokenizer.json may replace a by aa forty times in a row: one letter is then more than all memory,
and the library that replaces cannot be interrupted. So the file is looked at before it is loaded.
Whatever can make a text longer by more than a constant counts, each step by the most that it does
to one letter. The library takes many steps without their `type`, so their fields tell them.
"""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

from tasks.core.errors import NotAModel
from tasks.core.files.foreign import read_json_object

FILE = "tokenizer.json"
_PARTS = ("normalizer", "pre_tokenizer", "decoder")
_MOST = 4096
"""Of honest ones ALBERT's has the longest row of steps, which comes to half of it."""
_BY_TYPE = {
    "ByteLevel": 2.0,  # a space and each byte of another letter than ASCII's become two
    "BertNormalizer": 8.0,  # NFD, and spaces around each Chinese character
    "Lowercase": 1.5,
    "NFC": 3.0,
    "NFD": 3.0,  # https://unicode.org/faq/normalization.html, the worst of each form
    "NFKC": 11.0,
    "NFKD": 11.0,
}
_METASPACE = 2.0
"""Two that take turns make some sixty percent more pieces each time."""
_BETWEEN_LETTERS = 3.0


def require_bounded_growth(model: Path) -> None:
    """Raise NotAModel for a tokenizer.json whose steps lengthen a text beyond all bounds."""
    if not (model / FILE).is_file():
        return
    document = read_json_object(model / FILE)
    growth = 1.0
    for part in _PARTS:
        for step in _steps(document.get(part)):
            growth *= _growth(step, part)
    if growth > _MOST:
        raise NotAModel(
            "This tokenizer makes texts longer beyond all bounds.",
            where=model / FILE,
            expected=f"steps that together make a text at most {_MOST} times as long",
            found=f"up to {growth:.0e} times",
            next_step="Take the tokenizer of the base model.",
        )


def _steps(part: object) -> Iterator[dict[str, object]]:
    """Yield the steps of a part, those of a sequence one after another."""
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
    """Return the length of the longest text that a map of sentencepiece puts in a letter's place.

    The size of its trie in four bytes, the trie, and all such texts, each ended by a NUL
    (`PrecompileCharsMap`, https://github.com/google/sentencepiece/blob/master/src/builder.cc).
    """
    try:
        raw = base64.b64decode(charsmap)
    except (binascii.Error, ValueError):
        return 1.0  # the library does not take it either
    texts = raw[4 + int.from_bytes(raw[:4], "little") :]
    longest = max(map(len, texts.split(b"\0")))
    return max(1.0, longest)


def _length(text: str) -> int:
    return len(text.encode(errors="replace"))
