"""The lines of one file, in bounded memory, and those that nobody can read told of."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from tasks.core.collected.records import LINE, CollectedAnswer, Rating, Review
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
"""More than a request that the gateway takes can become."""


@dataclass(frozen=True)
class BadLine:
    """A line that is no record: a power cut tore it, or somebody edited the file."""

    path: Path
    offset: int
    size_bytes: int
    why: str

    def __str__(self) -> str:
        """Return where it is and what is wrong, without a word of what it says."""
        return f"{self.path}, at byte {self.offset}: {self.why}"


@dataclass(frozen=True)
class LineSpan:
    """Where a record stands."""

    path: Path
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Head:
    """What a line begins with: of which answer, whose, when, what."""

    id: str
    person: str
    time: datetime
    kind: Literal["answer", "rating", "review"]


OnBad = Callable[[BadLine], object]


def warn(bad: BadLine) -> None:
    """Log a bad line."""
    _LOG.warning("a line of collected answers is left out: %s", bad)


def untold(_bad: BadLine) -> None:
    """Tell nobody: another reading of the same lines has told, or will."""


def records_in(
    path: Path, on_bad: OnBad = warn
) -> Iterator[tuple[LineSpan, CollectedAnswer | Rating | Review]]:
    """Yield each record of the file with its place. A file that is not there has none."""
    for place, line in raw_lines(path):
        record = _parsed(place, line, on_bad)
        if record is not None:
            yield place, record


def head_of(line: bytes) -> Head | None:
    """Return what a whole line begins with, None for a line that is no record.

    The texts are not read where the fields stand as `records.line_of` writes them.
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
    """Yield each line with its end, at most MAX_LINE_BYTES of it, and its place."""
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
    """Return the record at a place that `records_in` gave. Raises ValidationError if it changed."""
    with names_path(place.path), place.path.open("rb") as file:
        file.seek(place.offset)
        return LINE.validate_json(file.read(place.size_bytes))


def _parsed(
    place: LineSpan, line: bytes, on_bad: OnBad
) -> CollectedAnswer | Rating | Review | None:
    if not line.strip():  # what separates a torn line from the next one
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
