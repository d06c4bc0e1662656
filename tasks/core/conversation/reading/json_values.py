"""The records of a JSON array or of JSON lines, one after another, in bounded memory.

The only reader for files of records that users write: conversations and prompts. The invariant:
nothing is skipped silently; a record that cannot be read is yielded as a `BadRecord`.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from tasks.core.conversation.reading import chunks as limits
from tasks.core.conversation.reading.chunks import RECORD_CHUNK_BYTES, Chunk, chunks
from tasks.core.conversation.reading.json_text import (
    RECORD_TOO_LONG,
    RepeatedField,
    ValueDecoder,
    may_be_cut,
    not_json,
    one_value,
)
from tasks.core.conversation.reading.layout import layout_of
from tasks.core.conversation.records import BadRecord, RecordFault, id_of
from tasks.core.errors import DataError
from tasks.core.progress import OnProgress, silent
from tasks.core.system.errors import names_path


def values(
    path: Path, of: str = "conversations", *, on_progress: OnProgress = silent
) -> Iterator[tuple[int, object]]:
    """Yield the position and value of each record; a BadRecord for one that cannot be read.

    The position is the index in the array, from 1, or the line number. In JSON lines a broken line
    costs one record. A JSON array cannot be read past a syntax error, which is its last record.
    `on_progress` counts bytes; `of` names the records in errors. Raises DataError if the file
    cannot be opened, is a stream, or is neither an array nor lines.
    """
    before = 0
    try:
        for chunk in chunks(path, layout_of(path, of)):
            read = ChunkValues(chunk)
            for position, value in read:
                yield before + position, moved(value, before)
            on_progress(chunk.done_bytes, chunk.size_bytes)
            if read.broken:
                return
            before += read.positions
    except OSError as error:
        raise unreadable(path, of, error) from error


def unreadable(path: Path, of: str, error: OSError) -> DataError:
    """Return the error for a file that cannot be opened or read."""
    return DataError(
        f"The {of} cannot be read.",
        where=path,
        found=error.strerror,
        next_step="Check the path and the rights to read it.",
    )


def moved(value: object, by: int) -> object:
    """Return a value shifted by some positions: a BadRecord carries its own position."""
    return replace(value, position=value.position + by) if isinstance(value, BadRecord) else value


class ChunkValues:
    """The values of one chunk, each with its position in the chunk, from 1.

    After iteration, `positions` is the number of values in the chunk; `broken` says that an error
    in it ends the reading of the whole file.
    """

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self.positions = 0
        self.broken = False

    def __iter__(self) -> Iterator[tuple[int, object]]:
        return self._lines() if self._chunk.layout == "lines" else self._array()

    def _lines(self) -> Iterator[tuple[int, object]]:
        if self._chunk.too_long:
            self.positions = 1
            yield 1, BadRecord(1, None, RecordFault.NOT_JSON, RECORD_TOO_LONG)
            return
        encoding = _encoding(self._chunk)
        for number, line in enumerate(BytesIO(self._chunk.read()), start=1):
            self.positions = number
            if line.strip():
                yield number, _value_of(line, number, encoding if number == 1 else "utf-8")

    def _array(self) -> Iterator[tuple[int, object]]:
        # A byte that is not UTF-8 becomes a lone surrogate: only its record is refused.
        text = self._chunk.read().decode(_encoding(self._chunk), "surrogateescape")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        try:
            yield from self._elements(text)
        except (ValueError, RecursionError) as error:
            self.broken = True
            reason = f"{self._reason(error, text)}; nothing after it was read"
            yield self.positions, BadRecord(self.positions, None, RecordFault.NOT_JSON, reason)

    def _elements(self, text: str) -> Iterator[tuple[int, object]]:
        """Yield the value after each comma and after the opening bracket of the array.

        Raises ValueError for invalid JSON; `positions` is then the position of the error.
        """
        decoder, opens = ValueDecoder(), self._chunk.start == 0
        at = _behind_space(text, 0)
        while at < len(text):
            mark, behind = text[at], _behind_space(text, at + 1)
            if mark == "]" or (opens and text[behind : behind + 1] == "]"):
                self._require_end(text, behind + (mark != "]"))
                return
            self.positions += 1
            if not opens and mark != ",":
                raise ValueError(f"a comma is expected, found {mark}{self._line(text, at)}")
            opens = False
            value, at, repeated = decoder.decode(text, behind)
            yield (
                self.positions,
                value if repeated is None else _ambiguous(repeated, value, self.positions),
            )
            at = _behind_space(text, at)
        if self._chunk.closing or self._chunk.too_long:
            self.positions += 1
            found = f"a comma is expected, found the end of the file{self._line(text, at)}"
            raise ValueError(RECORD_TOO_LONG if self._chunk.too_long else found)

    def _require_end(self, text: str, at: int) -> None:
        at = _behind_space(text, at)
        if at < len(text):
            self.positions += 1
            raise ValueError(f"text follows after the end of the array{self._line(text, at)}")

    def _reason(self, error: ValueError | RecursionError, text: str) -> str:
        if not isinstance(error, json.JSONDecodeError):
            return not_json(error)
        if self._chunk.too_long and may_be_cut(error):
            return RECORD_TOO_LONG
        return not_json(error) + self._line(text, error.pos)

    def _line(self, text: str, at: int) -> str:
        """Return the line number in the file of an offset in the text, as part of an error."""
        before = _lines_before(self._chunk.path, self._chunk.start)
        return f", in line {before + text.count(chr(10), 0, at) + 1}"


def _encoding(chunk: Chunk) -> str:
    return "utf-8" if chunk.start else "utf-8-sig"


def _behind_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _lines_before(path: Path, stop: int) -> int:
    """Count the line ends before a byte of the file; no chunk begins between CR and LF."""
    lines = 0
    with names_path(path), path.open("rb") as file:
        cut = False
        while data := file.read(min(RECORD_CHUNK_BYTES, stop - file.tell())):
            lines += data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
            lines -= cut and data.startswith(b"\n")
            cut = data.endswith(b"\r")
    return lines


def _value_of(line: bytes, number: int, encoding: str) -> object:
    if len(line) > limits.MAX_RECORD_BYTES:
        return BadRecord(number, None, RecordFault.NOT_JSON, RECORD_TOO_LONG)
    try:
        return one_value(line.decode(encoding))
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start + 1} of the line"
        return BadRecord(number, None, RecordFault.NOT_UTF8, reason)
    except RepeatedField as error:
        return _ambiguous(error.field, error.value, number)
    except (ValueError, RecursionError) as error:
        return BadRecord(number, None, RecordFault.NOT_JSON, not_json(error))


def _ambiguous(field: str, value: object, position: int) -> BadRecord:
    reason = f"{RepeatedField(field, value)}, and only one of them can be meant"
    return BadRecord(position, id_of(value), RecordFault.WRONG_FIELDS, reason)
