"""Conversations out of a file, one after another, in bounded memory.

The invariant: nothing is skipped in silence. `scan` names every bad record beside the good ones;
`load` returns all of a flawless file, in memory, or nothing. A file whose first records are all in
a format that is not read is refused once, with that format's name.
"""

from collections.abc import Iterator
from pathlib import Path

from tasks.core.conversation.data_files import DataFile, looked_at
from tasks.core.conversation.dialects import read_record
from tasks.core.conversation.json_values import values
from tasks.core.conversation.records import BadRecord, Conversation
from tasks.core.errors import DataError
from tasks.core.progress import OnProgress, silent

_SHOWN_FAULTS = 10


def scan(
    data: Path | DataFile, *, merge_neighbours: bool = False, on_progress: OnProgress = silent
) -> Iterator[tuple[int, Conversation | BadRecord]]:
    """Yield each record of the file, with its position, or what is wrong with it.

    A path alone is read in the format that a look at its first records shows. The position is that
    in the array, or the line's number. `on_progress` counts the bytes that were read. Raises
    DataError when the file cannot be opened, or is no file of conversations at all.
    """
    (file,) = looked_at(data if isinstance(data, Path) else (data,))
    for position, value in values(file.path, on_progress=on_progress):
        if isinstance(value, BadRecord):
            yield position, value
        else:
            merge = merge_neighbours
            yield position, read_record(value, position, file.read_as, merge_neighbours=merge)


def find_record(
    data: Path | DataFile, position: int, *, merge_neighbours: bool = False
) -> Conversation:
    """Return the conversation at a position as `scan` counts them.

    Raises DataError when there is none, or when that record is bad.
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
