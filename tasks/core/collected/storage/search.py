"""Search for one answer by its id, without an index: the newest day is read first."""

import re
from collections.abc import Iterator
from pathlib import Path

from tasks.core.collected.storage.directory import day_files
from tasks.core.collected.storage.lines import MAX_LINE_BYTES, LineSpan, raw_lines, record_at
from tasks.core.collected.storage.records import CollectedAnswer, Rating, Review
from tasks.core.files.copies import CHUNK_BYTES
from tasks.core.system.errors import names_path

_CLIENT = re.compile(rb'"client":\s*"([\w.-]{1,64})"')


def find_answer(directory: Path, answer_id: str) -> CollectedAnswer | None:
    """Return the answer with this id, None if none is kept. The caller holds the lock.

    Runs at the speed of the disk: only lines with the id are parsed.
    """
    for path in reversed(day_files(directory)):
        for record in _with_id(path, answer_id):
            if isinstance(record, CollectedAnswer):
                return record
    return None


def find_rated(directory: Path, answer_id: str) -> tuple[CollectedAnswer | None, int]:
    """Return the answer as `find_answer` does, and the number of its ratings; none is older."""
    answer, ratings = None, 0
    for path in reversed(day_files(directory)):
        for record in _with_id(path, answer_id):
            if isinstance(record, CollectedAnswer):
                answer = record
            else:
                ratings += 1
        if answer is not None:
            break
    return answer, ratings


def clients_in(directory: Path) -> set[str]:
    """Return the names of the API keys that the kept answers were asked with. Raises OSError."""
    return {
        found[1].decode()
        for path in day_files(directory)
        for _, line in raw_lines(path)
        if (found := _CLIENT.search(line)) is not None
    }


def mentions(path: Path, text: bytes) -> bool:
    """Return whether a file contains the bytes; False if there is no file."""
    try:
        return next(_offsets(path, text), None) is not None
    except FileNotFoundError:
        return False


def _with_id(path: Path, answer_id: str) -> Iterator[CollectedAnswer | Rating | Review]:
    # No text can contain this: a quotation mark in a JSON string is escaped.
    begins = b'{"id":"%s",' % answer_id.encode()
    for offset in _offsets(path, begins):
        try:
            yield record_at(LineSpan(path, offset, _line_bytes(path, offset)))
        except ValueError:  # torn by a power cut
            continue


def _offsets(path: Path, wanted: bytes) -> Iterator[int]:
    """Yield the offsets of the bytes, block by block: a large search would block other threads."""
    kept, start = b"", 0
    with path.open("rb") as file, names_path(path):
        while piece := file.read(CHUNK_BYTES):
            block = kept + piece
            at = block.find(wanted)
            while at >= 0:
                yield start + at
                at = block.find(wanted, at + 1)
            kept = block[-(len(wanted) - 1) :]
            start += len(block) - len(kept)


def _line_bytes(path: Path, offset: int) -> int:
    with path.open("rb") as file, names_path(path):
        file.seek(offset)
        return len(file.readline(MAX_LINE_BYTES))
