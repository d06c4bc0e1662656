"""Conversations out of a file, one after another, in bounded memory.

Reads a JSON array or JSON lines (the first character decides). The invariant: nothing is skipped
in silence. `scan` names every bad record beside the good ones; `load` returns all of a flawless
file, in memory, or nothing.
"""

import json
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, TextIO

from tasks.core.conversation.records import BadRecord, Conversation, Fault, parse_record
from tasks.core.errors import DataError
from tasks.core.progress import Report, silent

_CHUNK_CHARACTERS = 1 << 20
_MAX_RECORD_CHARACTERS = 1 << 26
_SHOWN_FAULTS = 10
_TOO_LONG_RECORD = "a record is longer than 64 Mi characters, or never closed"


def scan(
    path: Path, *, merge_neighbours: bool = False, report: Report = silent
) -> Iterator[tuple[int, Conversation | BadRecord]]:
    """Yield each record of the file, with its position, or what is wrong with it.

    The position is that in the array, or the line's number. In JSON lines a broken line is one bad
    record. A JSON array cannot be read past a syntax error: that is its last record. `report`
    counts the bytes that were read. Raises DataError when the file cannot be opened.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = _first_character(file)
        values = _array(path, report) if first == "[" else _lines(path, report)
        for position, value in values:
            if isinstance(value, BadRecord):
                yield position, value
            else:
                yield position, parse_record(value, position, merge_neighbours=merge_neighbours)
    except OSError as error:
        raise DataError(
            "The conversations cannot be read.",
            where=path,
            found=error.strerror,
            next_step="Name a readable file in FastChat's conversation format.",
        ) from error


def find_record(path: Path, position: int, *, merge_neighbours: bool = False) -> Conversation:
    """Return the conversation at a position as `scan` counts them.

    Raises DataError when there is none, or when that record is bad.
    """
    found = "the file ends before it"
    for at, record in scan(path, merge_neighbours=merge_neighbours):
        if at == position and isinstance(record, Conversation):
            return record
        if at == position and isinstance(record, BadRecord):
            found = record.reason
            break
    raise DataError(
        "This record cannot be shown.",
        where=f"{path}, record {position}",
        found=found,
        next_step=f"See what `kawan-usaha data check {path}` says.",
    )


def load(path: Path) -> tuple[Conversation, ...]:
    """Return all conversations of a file, whose form must be without a fault.

    Raises DataError that counts the bad records and lists the first ones.
    """
    records = [record for _, record in scan(path)]
    good = tuple(record for record in records if isinstance(record, Conversation))
    bad = [record for record in records if isinstance(record, BadRecord)]
    if bad or not good:
        raise _faults(path, bad, len(good))
    return good


def _faults(path: Path, bad: list[BadRecord], good_count: int) -> DataError:
    if not bad:
        return DataError(
            "The file holds no conversation.",
            where=path,
            expected="a JSON array, or one JSON object a line, in FastChat's conversation format",
        )
    shown = [f"\n    {record}" for record in bad[:_SHOWN_FAULTS]]
    more = f"\n    and {len(bad) - len(shown)} more" if len(bad) > len(shown) else ""
    return DataError(
        f"{len(bad)} of {len(bad) + good_count} records cannot be used.",
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


def _lines(path: Path, report: Report) -> Iterator[tuple[int, object]]:
    size_bytes, read_bytes = path.stat().st_size, 0
    with path.open("rb") as file:
        for number, line in enumerate(_bounded_lines(file), start=1):
            read_bytes += len(line)
            report(read_bytes, size_bytes)
            if not line.strip():
                continue
            if len(line) > _MAX_RECORD_CHARACTERS:
                yield number, BadRecord(number, None, Fault.NOT_JSON, _TOO_LONG_RECORD)
                continue
            try:
                yield number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                reason = f"not UTF-8 at byte {error.start + 1} of the line"
                yield number, BadRecord(number, None, Fault.NOT_UTF8, reason)
            except (ValueError, RecursionError) as error:
                yield number, BadRecord(number, None, Fault.NOT_JSON, _not_json(error))


def _bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield each line; of one that is too long for a record, only as much as shows that."""
    limit = _MAX_RECORD_CHARACTERS + 1
    while line := file.readline(limit):
        rest = line
        while len(rest) == limit and not rest.endswith(b"\n"):
            rest = file.readline(limit)
        yield line


def _array(path: Path, report: Report) -> Iterator[tuple[int, object]]:
    size_bytes = path.stat().st_size
    with path.open("rb") as raw, TextIOWrapper(raw, encoding="utf-8-sig") as file:
        text = _JsonText(file)
        text.take()  # the opening bracket
        position = 1
        try:
            if text.peek() == "]":
                return
            while True:
                yield position, text.value()
                report(raw.tell(), size_bytes)
                if (mark := text.take()) == "]":
                    break
                position += 1
                if mark != ",":
                    raise ValueError(f"a comma is expected, found {mark or 'the end of the file'}")
            if text.peek():
                raise ValueError("text follows after the end of the array")
        except UnicodeDecodeError:
            yield position, _last(position, Fault.NOT_UTF8, "not UTF-8")
        except (ValueError, RecursionError) as error:
            yield position, _last(position, Fault.NOT_JSON, _not_json(error))


def _last(position: int, fault: Fault, reason: str) -> BadRecord:
    return BadRecord(position, None, fault, f"{reason}; nothing after it was read")


def _not_json(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
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
            raise ValueError(_TOO_LONG_RECORD)
        # As much again as is there, so that a long record costs a few attempts, not thousands.
        chunk = self._file.read(max(_CHUNK_CHARACTERS, len(rest)))
        self._text, self._at = rest + chunk, 0
        return bool(chunk)
