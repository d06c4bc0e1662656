"""The conversations of a file, one after another, in bounded memory.

The invariant: nothing is skipped silently. `scan` yields every bad record beside the good ones. A
file whose first records are all in a format that cannot be read is refused once, with the name of
that format.
"""

from collections.abc import Iterator
from pathlib import Path

from tasks.core.conversation.reading.data_files import DataFile, detect_formats
from tasks.core.conversation.reading.dialects import parse_as
from tasks.core.conversation.reading.json_values import values
from tasks.core.conversation.records import BadRecord, Conversation
from tasks.core.errors import DataError
from tasks.core.progress import OnProgress, silent


def scan(
    data: Path | DataFile, *, merge_neighbours: bool = False, on_progress: OnProgress = silent
) -> Iterator[tuple[int, Conversation | BadRecord]]:
    """Yield the position of each record, with its conversation or what is wrong with it.

    The format of a path alone is detected from its first records. The position is the index in the
    array, from 1, or the line number. `on_progress` counts bytes. Raises DataError if the file
    cannot be opened or is not a file of conversations.
    """
    (file,) = detect_formats(data if isinstance(data, Path) else (data,))
    for position, value in values(file.path, on_progress=on_progress):
        if isinstance(value, BadRecord):
            yield position, value
        else:
            merge = merge_neighbours
            yield position, parse_as(value, position, file.read_as, merge_neighbours=merge)


def find_record(
    data: Path | DataFile, position: int, *, merge_neighbours: bool = False
) -> Conversation:
    """Return the conversation at a position, counted as in `scan`.

    Raises DataError if there is no record, or a bad one.
    """
    found, name = "the file ends before it", data.name if isinstance(data, DataFile) else data
    for at, record in scan(data, merge_neighbours=merge_neighbours):
        if at == position and isinstance(record, Conversation):
            return record
        if at == position and isinstance(record, BadRecord):
            found = record.reason
            break
    raise DataError(
        "This record cannot be shown.",
        where=f"{name}, record {position}",
        found=found,
        next_step=f"See what `kawan-usaha data check {name}` says.",
    )
