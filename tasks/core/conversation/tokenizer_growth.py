"""How much longer a tokenizer may make a text before it cuts it into tokens, or after.

A tokenizer.json may replace a by aa forty times in a row: one letter is then more than all memory,
and the library that replaces cannot be interrupted. So the file is looked at before it is loaded.
"""

from collections.abc import Iterator
from pathlib import Path

from tasks.core.errors import NotAModel
from tasks.core.foreign import read_json_object

FILE = "tokenizer.json"
_MOST = 4096
"""Of honest ones the longest rows of replacements may double a text a few times."""


def require_bounded_growth(model: Path) -> None:
    """Raise NotAModel for a tokenizer.json whose replacements lengthen a text beyond all bounds."""
    if not (model / FILE).is_file():
        return
    document = read_json_object(model / FILE)
    for part in ("normalizer", "decoder"):
        growth = 1.0
        for step in _steps(document.get(part)):
            growth *= _growth(step)
        if growth > _MOST:
            raise NotAModel(
                f"The {part} of this tokenizer makes texts longer beyond all bounds.",
                where=model / FILE,
                expected=f"replacements that together make a text at most {_MOST} times as long",
                found=f"up to {growth:.0e} times",
                next_step="Take the tokenizer of the base model.",
            )


def _steps(part: object) -> Iterator[dict[str, object]]:
    """Yield the steps of a normalizer or decoder, those of a sequence one after another."""
    waiting = [part]
    while waiting:
        step = waiting.pop()
        if isinstance(step, dict):
            yield step
            waiting += [value for value in step.values() if isinstance(value, list | dict)]
        elif isinstance(step, list):
            waiting += step


def _growth(step: dict[str, object]) -> float:
    if step.get("type") != "Replace":
        return 1.0
    content, pattern = step.get("content"), step.get("pattern")
    new = len(content.encode(errors="replace")) if isinstance(content, str) else 0
    text = pattern.get("String") if isinstance(pattern, dict) else None
    if isinstance(text, str) and text:
        return max(1.0, new / len(text.encode(errors="replace")))
    return 1.0 + new  # a regular expression may match between two letters
