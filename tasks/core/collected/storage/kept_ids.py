"""The ids of the answers that a deployment keeps, without reading what they say."""

import re
from pathlib import Path

from tasks.core.collected.storage.directory import day_files
from tasks.core.collected.storage.lines import ignore_bad_line, raw_lines, records_in
from tasks.core.collected.storage.records import CollectedAnswer

_BEGINNING = re.compile(
    rb'\{"id":"([^"\\]+)","person":"[^"\\]*","time":"[^"\\]*","kind":"(answer|rating)",'
)
_END = b"}\n"


def kept_ids(directory: Path) -> frozenset[str]:
    """Return the id of each answer. The caller holds the lock. Raises OSError.

    Lines as `records.line_of` writes them are matched by their beginning; a file with any other
    line is parsed in full. A line without an end is not an answer.
    """
    return frozenset(id_ for path in day_files(directory) for id_ in _ids_in(path))


def _ids_in(path: Path) -> set[str]:
    found = set[str]()
    for _, line in raw_lines(path):
        if not line.endswith(_END):
            continue
        match = _BEGINNING.match(line)
        if match is None:
            return _read(path)
        if match[2] == b"answer":
            found.add(match[1].decode())
    return found


def _read(path: Path) -> set[str]:
    records = (record for _, record in records_in(path, ignore_bad_line))
    return {record.id for record in records if isinstance(record, CollectedAnswer)}
