"""JSON values read from a text file, with only the current value in memory.

Python's own decoder silently keeps the last of two fields of the same name. Here such an object
raises `RepeatedField`.
"""

import json
from typing import TextIO

from tasks.core.files.foreign import json_fault, repeated_name

_CHUNK_CHARACTERS = 1 << 20
MAX_RECORD_CHARACTERS = 1 << 26
RECORD_TOO_LONG = "a record is longer than 64 Mi characters, or never closed"
_CUT_CHARACTERS = 12  # a cut "-Infinity" is reported at its beginning


class RepeatedField(ValueError):
    """An object has two fields of the same name; `value` is what Python's decoder returns."""

    def __init__(self, field: str, value: object) -> None:
        super().__init__(f"the field `{field}` stands in one object twice")
        self.field, self.value = field, value


class ValueDecoder:
    """Decodes one value at a time and reports a repeated field in it."""

    def __init__(self) -> None:
        self._repeated: str | None = None
        self._json = json.JSONDecoder(object_pairs_hook=self._object)

    def decode(self, text: str, at: int = 0) -> tuple[object, int, str | None]:
        """Return the value at an offset, the offset of its end, and a repeated field if any."""
        self._repeated = None
        value, end = self._json.raw_decode(text, at)
        return value, end, self._repeated

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs) and self._repeated is None:
            self._repeated = repeated_name(pairs)
        return found


def one_value(text: str) -> object:
    """Return the only JSON value of a text. Raises ValueError if there is none, or more."""
    start = len(text) - len(text.lstrip())
    value, end, repeated = ValueDecoder().decode(text, start)
    if rest := text[end:].lstrip():
        raise json.JSONDecodeError("Extra data", text, len(text) - len(rest))
    if repeated is not None:
        raise RepeatedField(repeated, value)
    return value


class JsonText:
    """Reads the values of an open text file one after another."""

    def __init__(self, file: TextIO, *, max_characters: int | None = None) -> None:
        """`max_characters` is the most that one value may have, MAX_CHARACTERS by default."""
        self._file = file
        self._decoder = ValueDecoder()
        self._max_characters = max_characters
        self._text = ""
        self._at = 0
        self._lines_before = 0

    @property
    def line(self) -> int:
        """The current line number, from 1."""
        return self._line_of(self._at)

    def peek(self) -> str:
        """Return the next character that is not white space, "" at the end of the file."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._read_more():
                return ""

    def take(self) -> str:
        """Return the next character that is not white space, and move past it."""
        character = self.peek()
        self._at += len(character)
        return character

    def value(self) -> object:
        """Return the next JSON value, and move past it.

        Raises RepeatedField, having moved past the value, and ValueError that names the line if
        there is no value.
        """
        self.peek()
        while True:
            try:
                value, end, repeated = self._decoder.decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if may_be_cut(error) and self._read_more():
                    continue
                line = self._line_of(error.pos)
                raise ValueError(f"{not_json(error)}, in line {line}") from error
            if end == len(self._text) and self._read_more():
                continue  # a number may continue past the end of the buffer
            self._at = end
            if repeated is not None:
                raise RepeatedField(repeated, value)
            return value

    def _line_of(self, at: int) -> int:
        return self._lines_before + self._text.count("\n", 0, at) + 1

    def _read_more(self) -> bool:
        rest = self._text[self._at :]
        if len(rest) > (self._max_characters or MAX_RECORD_CHARACTERS):
            raise ValueError(RECORD_TOO_LONG)
        # Double the buffer, so that a long record takes a few attempts, not thousands.
        chunk = self._file.read(max(_CHUNK_CHARACTERS, len(rest)))
        self._lines_before += self._text.count("\n", 0, self._at)
        self._text, self._at = rest + chunk, 0
        return bool(chunk)


def may_be_cut(error: json.JSONDecodeError) -> bool:
    """Return whether reading more text may cure the error."""
    near_the_end = error.pos >= len(error.doc) - _CUT_CHARACTERS
    return near_the_end or error.msg.startswith("Unterminated string")


def not_json(error: ValueError | RecursionError) -> str:
    """Return what is wrong with a value, and the text around the error."""
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    near = error.doc[max(0, error.pos - 20) : error.pos + 20]
    return f"not JSON: {json_fault(error)} near {near!r}"
