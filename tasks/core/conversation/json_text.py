"""JSON values out of a text file, with no more of it in memory than the value at hand needs.

Python's own decoder takes the last of two fields of one name, and the other one is lost. Here such
a value raises `RepeatedField`.
"""

import json
from typing import TextIO

from tasks.core.files.foreign import json_fault, repeated_name

_CHUNK_CHARACTERS = 1 << 20
MAX_CHARACTERS = 1 << 26
TOO_LONG = "a record is longer than 64 Mi characters, or never closed"
_CUT_CHARACTERS = 12  # "-Infinity" may be cut, and its error stands where it begins


class RepeatedField(ValueError):
    """An object has two fields of one name; `value` is what Python makes of the whole."""

    def __init__(self, field: str, value: object) -> None:
        super().__init__(f"the field `{field}` stands in one object twice")
        self.field, self.value = field, value


class Decoder:
    """Decodes one value at a time, and knows which field of it was repeated."""

    def __init__(self) -> None:
        self._repeated: str | None = None
        self._json = json.JSONDecoder(object_pairs_hook=self._object)

    def decode(self, text: str, at: int = 0) -> tuple[object, int, str | None]:
        """Return the value that begins at a place, where it ends, and a field that stands twice."""
        self._repeated = None
        value, end = self._json.raw_decode(text, at)
        return value, end, self._repeated

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs) and self._repeated is None:
            self._repeated = repeated_name(pairs)
        return found


def one_value(text: str) -> object:
    """Return the only JSON value of a text. Raises ValueError, also for more than one."""
    start = len(text) - len(text.lstrip())
    value, end, repeated = Decoder().decode(text, start)
    if rest := text[end:].lstrip():
        raise json.JSONDecodeError("Extra data", text, len(text) - len(rest))
    if repeated is not None:
        raise RepeatedField(repeated, value)
    return value


class JsonText:
    """The values of a file that is open as text."""

    def __init__(self, file: TextIO, *, max_characters: int | None = None) -> None:
        """`max_characters` is the most that one value may have, MAX_CHARACTERS by default."""
        self._file = file
        self._decoder = Decoder()
        self._max_characters = max_characters
        self._text = ""
        self._at = 0
        self._lines_before = 0

    @property
    def line(self) -> int:
        """The number of the line that the reading is at, from 1."""
        return self._line_of(self._at)

    def peek(self) -> str:
        """Return the next character that is not white space; "" at the end of the file."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._read_more():
                return ""

    def take(self) -> str:
        """Return what `peek` shows, and go past it."""
        character = self.peek()
        self._at += len(character)
        return character

    def value(self) -> object:
        """Return the JSON value that begins here, and go past it.

        Raises RepeatedField after it, ValueError when there is none; that names the line.
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
                continue  # a number may go on behind the cut
            self._at = end
            if repeated is not None:
                raise RepeatedField(repeated, value)
            return value

    def _line_of(self, at: int) -> int:
        return self._lines_before + self._text.count("\n", 0, at) + 1

    def _read_more(self) -> bool:
        rest = self._text[self._at :]
        if len(rest) > (self._max_characters or MAX_CHARACTERS):
            raise ValueError(TOO_LONG)
        # As much again as is there, so that a long record costs a few attempts, not thousands.
        chunk = self._file.read(max(_CHUNK_CHARACTERS, len(rest)))
        self._lines_before += self._text.count("\n", 0, self._at)
        self._text, self._at = rest + chunk, 0
        return bool(chunk)


def may_be_cut(error: json.JSONDecodeError) -> bool:
    """Return whether more of the text may mend the error: else it is not read to its end."""
    near_the_end = error.pos >= len(error.doc) - _CUT_CHARACTERS
    return near_the_end or error.msg.startswith("Unterminated string")


def not_json(error: ValueError | RecursionError) -> str:
    """Return what is wrong with a value, with the text around the place."""
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    near = error.doc[max(0, error.pos - 20) : error.pos + 20]
    return f"not JSON: {json_fault(error)} near {near!r}"
