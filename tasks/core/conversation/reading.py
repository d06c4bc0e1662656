"""Conversations out of a file, one after another, in bounded memory.

Reads a JSON array or JSON lines (the first character decides). The invariant: nothing is skipped
in silence. `scan` names every bad record beside the good ones; `read_conversations` ends with an
error if there was one; `load` returns all of a flawless file or nothing.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tasks.core.conversation.records import BadRecord, Conversation, parse_record
from tasks.core.errors import DataError

_CHUNK_CHARACTERS = 1 << 20
_MAX_RECORD_CHARACTERS = 1 << 26
_SHOWN_FAULTS = 10


def scan(path: Path) -> Iterator[Conversation | BadRecord]:
    """Yield each record of the file as a conversation, or as what is wrong with it.

    In JSON lines a broken line is one bad record. A JSON array cannot be read past a syntax error:
    that is its last record. Raises DataError when the file cannot be opened.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = _first_character(file)
        values = _array(path) if first == "[" else _lines(path)
        for position, value in values:
            yield value if isinstance(value, BadRecord) else parse_record(value, position)
    except OSError as error:
        raise DataError(
            "The conversations cannot be read.",
            where=path,
            found=error.strerror,
            next_step="Name a readable file in FastChat's conversation format.",
        ) from error


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Yield the conversations of the file; after the last, raise DataError if any was bad.

    The error counts the bad records and lists the first ones with position, id and reason.
    """
    bad: list[BadRecord] = []
    bad_count = good_count = 0
    for record in scan(path):
        if isinstance(record, BadRecord):
            bad_count += 1
            bad = [*bad, record][:_SHOWN_FAULTS]
        else:
            good_count += 1
            yield record
    if bad_count or not good_count:
        raise _faults(path, bad, bad_count, good_count)


def load(path: Path) -> tuple[Conversation, ...]:
    """Return all conversations of a file without a fault. Raises DataError as above."""
    return tuple(read_conversations(path))


def _faults(path: Path, bad: list[BadRecord], bad_count: int, good_count: int) -> DataError:
    if not bad_count:
        return DataError(
            "The file holds no conversation.",
            where=path,
            expected="a JSON array, or one JSON object a line, in FastChat's conversation format",
        )
    shown = [f"\n    {record}" for record in bad]
    more = f"\n    and {bad_count - len(bad)} more" if bad_count > len(bad) else ""
    return DataError(
        f"{bad_count} of {bad_count + good_count} records cannot be used.",
        where=path,
        expected='{"id": ..., "conversations": [{"from": "human", "value": ...}, '
        '{"from": "gpt", "value": ...}, ...]}',
        found="".join(shown) + more,
        next_step="Correct these records, or take them out of the file.",
    )


def _first_character(file: TextIO) -> str:
    try:
        while character := file.read(1):
            if not character.isspace():
                return character
    except UnicodeDecodeError:
        pass  # the readers below name the place
    return ""


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                yield number, BadRecord(number, None, f"not UTF-8 at byte {error.start}")
            except json.JSONDecodeError as error:
                yield number, BadRecord(number, None, _not_json(error))


def _array(path: Path) -> Iterator[tuple[int, object]]:
    with path.open(encoding="utf-8-sig") as file:
        text = _JsonText(file)
        text.take()  # the opening bracket
        position = 1
        try:
            if text.peek() == "]":
                return
            while True:
                yield position, text.value()
                if (mark := text.take()) == "]":
                    break
                position += 1
                if mark != ",":
                    raise ValueError(f"a comma is expected, found {mark or 'the end of the file'}")
            if text.peek():
                raise ValueError("text follows after the end of the array")
        except UnicodeDecodeError:
            yield position, BadRecord(position, None, "not UTF-8; nothing after it was read")
        except json.JSONDecodeError as error:
            yield (
                position,
                BadRecord(position, None, f"{_not_json(error)}; nothing after it was read"),
            )
        except ValueError as error:
            yield position, BadRecord(position, None, f"{error}; nothing after it was read")


def _not_json(error: json.JSONDecodeError) -> str:
    near = error.doc[max(0, error.pos - 20) : error.pos + 20]
    return f"not JSON: {error.msg} near {near!r}"


class _JsonText:
    """JSON values out of a text file, with no more of it in memory than the value at hand needs."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0

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
        """Return the JSON value that begins here. Raises ValueError when there is none."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._read_more():  # not cut off but wrong
                    raise
                continue
            if end == len(self._text) and self._read_more():
                continue  # a number may go on behind the cut
            self._at = end
            return value

    def _read_more(self) -> bool:
        rest = self._text[self._at :]
        if len(rest) > _MAX_RECORD_CHARACTERS:
            raise ValueError("a record is longer than 64 Mi characters, or never closed")
        # As much again as is there, so that a long record costs a few attempts, not thousands.
        chunk = self._file.read(max(_CHUNK_CHARACTERS, len(rest)))
        self._text, self._at = rest + chunk, 0
        return bool(chunk)
