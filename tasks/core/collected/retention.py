"""How long and how much is kept: whole days go, the oldest first.

The invariant: a review goes before the answer that it is of, so that nothing of an answer outlives
it, whenever the process is killed.
"""

import logging
import re
from datetime import date, timedelta
from pathlib import Path

from tasks.core.collected.lines import records_in
from tasks.core.collected.place import REVIEWS, day_files
from tasks.core.collected.records import CollectedAnswer
from tasks.core.collected.rewriting import rewrite
from tasks.core.files import fsync_directory

_LOG = logging.getLogger(__name__)
_ID = re.compile(rb'\{"id":"([^"]+)"')


def keep_within(
    directory: Path,
    *,
    retention_days: int,
    max_bytes: int,
    today: date,
    coming_bytes: int = 0,
    makes_room: bool = True,
) -> bool:
    """Remove the days that are over; return whether coming_bytes have room. Caller holds the lock.

    Nothing is kept for longer than retention_days. Where it makes_room, days go while the files are
    larger than max_bytes, but for today's: it takes no more then.
    Raises OSError.
    """
    days = day_files(directory)
    over_since = today - timedelta(days=retention_days)
    over = [path for path in days if date.fromisoformat(path.stem) <= over_since]
    rest = [path for path in days if path not in over]
    sizes = {path: _size(path) for path in (*rest, directory / REVIEWS)}
    room = max_bytes - coming_bytes - sum(sizes.values())
    while makes_room and room < 0 and rest and date.fromisoformat(rest[0].stem) < today:
        over.append(rest[0])
        room += sizes[rest.pop(0)]
    if over:
        _remove(directory, over)
    return room >= 0


def _remove(directory: Path, days: list[Path]) -> None:
    _drop_reviews_of(directory / REVIEWS, days)
    for path in days:
        path.unlink(missing_ok=True)
        _LOG.info("what was collected on %s has been removed", path.stem)
    fsync_directory(directory)


def _drop_reviews_of(reviews: Path, days: list[Path]) -> None:
    if not _size(reviews):
        return
    gone = {
        record.id.encode()
        for path in days
        for _, record in records_in(path, _no_matter)
        if isinstance(record, CollectedAnswer)
    }

    def stays(line: bytes) -> bool:
        found = _ID.match(line)
        return found is None or found[1] not in gone

    rewrite(reviews, stays)


def _no_matter(_bad: object) -> None:
    """A line that cannot be read goes with its day."""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
