"""Words in files, to the last byte: as text, and as the tokens of the tests' tokenizer."""

from collections.abc import Iterator
from pathlib import Path

import numpy

from tests.models import tiny_tokenizer


def forms_of(word: str) -> Iterator[bytes]:
    """Yield the bytes that a word is kept as: text, and the numbers that a model reads."""
    yield from (word.encode(), word.encode("utf-16-le"), word.encode("utf-32-le"))
    ids = tiny_tokenizer()(word, add_special_tokens=False).input_ids
    yield from (numpy.array(ids, dtype=dtype).tobytes() for dtype in ("<u2", "<i4", "<i8"))


def files_with(directory: Path, word: str) -> list[Path]:
    """Return the files below directory that hold a word, from there."""
    forms = list(forms_of(word))
    files = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return [path.relative_to(directory) for path in files if _has_one(path.read_bytes(), forms)]


def _has_one(content: bytes, forms: list[bytes]) -> bool:
    return any(form in content for form in forms)
