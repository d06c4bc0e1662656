"""The records of a JSON array or of JSON lines, one after another, in bounded memory.

The one reader for files of records that users write: conversations and prompts. The invariant:
nothing is skipped in silence. What cannot be read is a `BadRecord` in its place.
"""

from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from tasks.core.conversation import json_text
from tasks.core.conversation.json_text import JsonText, RepeatedField, not_json, one_value
from tasks.core.conversation.layout import layout_of
from tasks.core.conversation.records import BadRecord, Fault, id_of
from tasks.core.errors import DataError
from tasks.core.progress import Report, silent


def values(
    path: Path, of: str = "conversations", *, report: Report = silent
) -> Iterator[tuple[int, object]]:
    """Yield each value of the file with its position, or a BadRecord in its place.

    The position is that in the array, or the line's number. In JSON lines a broken line is one bad
    record. A JSON array cannot be read past a syntax error: that is its last record. `report`
    counts the bytes that were read; `of` names the records for errors. Raises DataError when the
    file cannot be opened, is a stream, or as a whole is something else.
    """
    try:
        array = layout_of(path, of) == "array"
        yield from _array(path, report) if array else _lines(path, report)
    except OSError as error:
        raise DataError(
            f"The {of} cannot be read.",
            where=path,
            found=error.strerror,
            next_step="Check the path and the rights to read it.",
        ) from error


def _lines(path: Path, report: Report) -> Iterator[tuple[int, object]]:
    size_bytes, read_bytes = path.stat().st_size, 0
    with path.open("rb") as file:
        for number, line in enumerate(_bounded_lines(file), start=1):
            read_bytes += len(line)
            report(read_bytes, size_bytes)
            if line.strip():
                yield number, _value_of(line, number)


def _value_of(line: bytes, number: int) -> object:
    if len(line) > json_text.MAX_CHARACTERS:
        return BadRecord(number, None, Fault.NOT_JSON, json_text.TOO_LONG)
    try:
        return one_value(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start + 1} of the line"
        return BadRecord(number, None, Fault.NOT_UTF8, reason)
    except RepeatedField as error:
        return _ambiguous(error, number)
    except (ValueError, RecursionError) as error:
        return BadRecord(number, None, Fault.NOT_JSON, not_json(error))


def _bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield each line; of one that is too long for a record, only as much as shows that."""
    limit = json_text.MAX_CHARACTERS + 1
    while line := file.readline(limit):
        rest = line
        while len(rest) == limit and not rest.endswith(b"\n"):
            rest = file.readline(limit)
        yield line


def _array(path: Path, report: Report) -> Iterator[tuple[int, object]]:
    size_bytes = path.stat().st_size
    # A byte that is not UTF-8 becomes half of a surrogate pair, so that only its record is lost.
    with (
        path.open("rb") as raw,
        TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape") as file,
    ):
        text = JsonText(file)
        position = 1
        try:
            text.take()  # the opening bracket
            if text.peek() == "]":
                return
            while True:
                yield position, _next(text, position)
                report(raw.tell(), size_bytes)
                if (mark := text.take()) == "]":
                    break
                position += 1
                if mark != ",":
                    found = mark or "the end of the file"
                    raise ValueError(f"a comma is expected, found {found}, in line {text.line}")
            if text.peek():
                raise ValueError(f"text follows after the end of the array, in line {text.line}")
        except (ValueError, RecursionError) as error:
            reason = f"{not_json(error)}; nothing after it was read"
            yield position, BadRecord(position, None, Fault.NOT_JSON, reason)


def _next(text: JsonText, position: int) -> object:
    try:
        return text.value()
    except RepeatedField as error:
        return _ambiguous(error, position)


def _ambiguous(error: RepeatedField, position: int) -> BadRecord:
    reason = f"{error}, and only one of them can be meant"
    return BadRecord(position, id_of(error.value), Fault.WRONG_FIELDS, reason)
