"""The lines of a file of collected answers, in bounded memory; unreadable ones are reported."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from tasks.core.collected.storage.records import LINE, CollectedAnswer, Rating, Review
from tasks.core.system.errors import names_path

_LOG = logging.getLogger(__name__)
_HEAD = re.compile(
    rb'\{"id":"([\w.-]{1,128})","person":"([0-9a-f]{32})","time":"([\dT:.Z+-]{1,40})",'
    rb'"kind":"(answer|rating|review)",'
)
_KINDS: Mapping[str, Literal["answer", "rating", "review"]] = {
    "answer": "answer",
    "rating": "rating",
    "review": "review",
}

MAX_LINE_BYTES = 8 << 20
"""More than any request that the gateway accepts can become."""


@dataclass(frozen=True)
class BadLine:
    """A line that is not a record: torn by a power cut, or edited by hand."""

    path: Path
    offset: int
    size_bytes: int
    why: str

    def __str__(self) -> str:
        """Return its place and the fault, without quoting its text."""
        return f"{self.path}, at byte {self.offset}: {self.why}"


@dataclass(frozen=True)
class LineSpan:
    """The bytes of a record in a file."""

    path: Path
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Head:
    """The first fields of a line, which can be read without its texts."""

    id: str
    person: str
    time: datetime
    kind: Literal["answer", "rating", "review"]


OnBad = Callable[[BadLine], object]


def log_bad_line(bad: BadLine) -> None:
    """Log a bad line."""
    _LOG.warning("a line of collected answers is left out: %s", bad)


def ignore_bad_line(_bad: BadLine) -> None:
    """Ignore a bad line: another pass over the same lines reports it."""


def records_in(
    path: Path, on_bad: OnBad = log_bad_line
) -> Iterator[tuple[LineSpan, CollectedAnswer | Rating | Review]]:
    """Yield each record of the file with its place; none if the file does not exist."""
    for place, line in raw_lines(path):
        record = _parsed(place, line, on_bad)
        if record is not None:
            yield place, record


def head_of(line: bytes) -> Head | None:
    """Return the first fields of a whole line, None if it is not a record.

    The texts are not parsed if the fields are in the order that `records.line_of` writes.
    """
    found = _HEAD.match(line) if line.endswith(b"}\n") else None
    try:
        if found is not None:
            name, person, time, kind = (part.decode() for part in found.groups())
            return Head(name, person, datetime.fromisoformat(time), _KINDS[kind])
        record = LINE.validate_json(line)
    except ValueError:
        return None
    return Head(record.id, record.person, record.time, record.kind)


def raw_lines(path: Path) -> Iterator[tuple[LineSpan, bytes]]:
    """Yield each line with its line end, cut at MAX_LINE_BYTES, and its place."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file, names_path(path):
        offset = 0
        while line := file.readline(MAX_LINE_BYTES):
            size = len(line)
            while not line.endswith(b"\n") and (rest := file.readline(MAX_LINE_BYTES)):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
            yield LineSpan(path, offset, size), line
            offset += size


def record_at(place: LineSpan) -> CollectedAnswer | Rating | Review:
    """Return the record at a place from `records_in`. Raises ValidationError if it has changed."""
    with names_path(place.path), place.path.open("rb") as file:
        file.seek(place.offset)
        return LINE.validate_json(file.read(place.size_bytes))


def _parsed(
    place: LineSpan, line: bytes, on_bad: OnBad
) -> CollectedAnswer | Rating | Review | None:
    if not line.strip():  # the separator after a torn line
        return None
    if place.size_bytes > MAX_LINE_BYTES:
        why = f"{place.size_bytes} bytes long"
    elif not line.endswith(b"\n"):
        why = "it has no end"
    else:
        try:
            return LINE.validate_json(line)
        except ValidationError as error:
            why = _first_fault(error)
    on_bad(BadLine(place.path, place.offset, place.size_bytes, why))
    return None


def _first_fault(error: ValidationError) -> str:
    """Return the first fault, without the value."""
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['type']}" if where else fault["type"]
