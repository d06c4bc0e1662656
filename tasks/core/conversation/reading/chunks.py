"""A file of records divided into chunks of about a megabyte that can be read independently.

Chunks are byte ranges, so that several processes can share a file. In JSON lines a chunk ends after
a line; in an array it ends after a value, and the next chunk begins with the comma. Only brackets
and quotes are followed to find where values end; syntax is checked by the reader of the chunk. The
invariant: up to the first syntax error every chunk holds whole records, and the boundaries depend
on the file alone, not on who reads it.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from tasks.core.conversation.reading.layout import Layout
from tasks.core.system.errors import names_path

RECORD_CHUNK_BYTES = 1 << 20
MAX_RECORD_BYTES = 1 << 26

# From any offset outside of a string to the next bracket; possessive, so without backtracking. The
# second is three times as fast, and correct where no backslash is itself escaped.
_BETWEEN = rb'[^"\[\]{}]*+'
_ANY_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN_STRING = rb'"[^"]*+"(?:(?<=\\")[^"]*+")*+(?<!\\")'
_ANY, _PLAIN = (
    re.compile(b"%b(?:%b%b)*+[][{}]" % (_BETWEEN, string, _BETWEEN), re.DOTALL)
    for string in (_ANY_STRING, _PLAIN_STRING)
)
_OPENING = b"[{"
_Range = tuple[int, int, Literal["", "closing", "too long"]]


@dataclass(frozen=True)
class Chunk:
    """The bytes [start, stop) of a file of `size_bytes`; `file` is its index among the files read.

    `closing`: the array or the file ends here. `too_long`: the chunk is the beginning of a record
    that is longer than MAX_RECORD_BYTES or never closed.
    """

    path: Path
    layout: Layout
    start: int
    stop: int
    size_bytes: int
    closing: bool = False
    too_long: bool = False
    file: int = 0

    @property
    def done_bytes(self) -> int:
        """How much of the file is read after this chunk: only white space follows an array."""
        return self.size_bytes if self.closing else self.stop

    def read(self) -> bytes:
        """Return the bytes."""
        with names_path(self.path), self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)


def chunks(path: Path, layout: Layout) -> Iterator[Chunk]:
    """Yield the chunks of the file in order. Raises OSError if it cannot be read."""
    with names_path(path), path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        found = _of_lines(file) if layout == "lines" else _of_array(file)
        for start, stop, end in found:
            closing, too_long = end == "closing", end == "too long"
            yield Chunk(path, layout, start, stop, size_bytes, closing, too_long)


def _of_lines(file: BinaryIO) -> Iterator[_Range]:
    start = 0
    while data := file.read(RECORD_CHUNK_BYTES):
        if not data.endswith(b"\n"):
            data += file.readline(MAX_RECORD_BYTES)
        stop, last = start + len(data), start + data.rfind(b"\n") + 1
        if stop - last <= MAX_RECORD_BYTES:  # the end of a line, or of the file
            yield start, stop, ""
        else:
            if last > start:
                yield start, last, ""
            stop = _behind_the_line(file, stop)
            yield last, stop, "too long"
        start = stop


def _behind_the_line(file: BinaryIO, at: int) -> int:
    """Return the offset at which the next line begins."""
    while part := file.readline(RECORD_CHUNK_BYTES):
        at += len(part)
        if part.endswith(b"\n"):
            break
    return at


def _of_array(file: BinaryIO) -> Iterator[_Range]:
    data, start = file.read(RECORD_CHUNK_BYTES), 0
    while b"[" not in data:  # more than a megabyte of white space
        data += file.read(RECORD_CHUNK_BYTES)
    found = _Values(data.index(b"[") + 1)
    while True:
        found.scan(data)
        if found.closed:
            stop = _tail(file, start + found.at)
            yield start, stop, "closing"
            return
        if found.end > RECORD_CHUNK_BYTES // 2:
            yield start, start + found.end, ""
            start, data = start + found.end, data[found.end :]
            found.cut()
        if len(data) > MAX_RECORD_BYTES:
            yield start, start + len(data), "too long"
            return
        # Double the buffer, so that a long record is scanned a few times only.
        more = file.read(max(RECORD_CHUNK_BYTES, len(data)))
        if not more:
            yield start, start + len(data), "closing"
            return
        data += more


class _Values:
    """How far the values of an array have been scanned in a buffer."""

    def __init__(self, at: int) -> None:
        self.at = at  # after the last bracket scanned
        self.end = 0  # after the last whole value
        self.closed = False
        self._depth = 0

    def scan(self, data: bytes) -> None:
        """Scan to the end of the buffer, or of the array."""
        match = (_ANY if rb"\\" in data else _PLAIN).match
        at, end, depth = self.at, self.end, self._depth
        while found := match(data, at):
            at = found.end()
            if data[at - 1] in _OPENING:
                depth += 1
                continue
            depth -= 1
            if depth <= 0:
                end = at
                if depth < 0:
                    break
        self.at, self.end, self._depth, self.closed = at, end, depth, depth < 0

    def cut(self) -> None:
        """Drop the whole values from the front of the buffer."""
        self.at, self.end = self.at - self.end, 0


def _tail(file: BinaryIO, end: int) -> int:
    """Return the end of an array, or the offset after the first non-space byte that follows it."""
    file.seek(end)
    at = end
    while part := file.read(RECORD_CHUNK_BYTES):
        if rest := part.lstrip():
            return at + len(part) - len(rest) + 1
        at += len(part)
    return end
