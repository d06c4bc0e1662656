"""Where a deployment keeps what was collected: names of files, and the lock on all of them.

    2026-11-30.jsonl   answers and ratings of a UTC day, one JSON object a line
    reviews.jsonl      decisions of the team
    salt               what a person's id is hashed with
    promised.json      for how long the answers of a day may be kept (promises.py)
    forgotten.json     who had theirs deleted within the last day (tombstones.py)
    .all-over          since when all days seem to be over at once (retention.py)
    .lock              held by whoever writes, rewrites, or reads for an artifact

The invariant: only the owner enters the directory, and no file in it is rewritten or read for an
artifact but under the lock.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from tasks.core.files.listing import matching
from tasks.core.files.locks import WAIT_S, locked

COLLECTED = "collected"
"""The directory's name below that of its deployment."""
REVIEWS = "reviews.jsonl"
SALT = "salt"
FORGOTTEN = "forgotten.json"
PROMISED = "promised.json"
ALL_OVER = ".all-over"
_LOCK = ".lock"
_DAY = re.compile(r"\d{4}-\d\d-\d\d\.jsonl")


def day_file(directory: Path, day: date) -> Path:
    """Return the file of a UTC day."""
    return directory / f"{day.isoformat()}.jsonl"


def day_files(directory: Path) -> list[Path]:
    """Return the files of all days, the oldest first."""
    return [path for path in matching(directory, "*.jsonl") if _is_day(path)]


@contextmanager
def held(
    directory: Path, what: str, *, shared: bool = False, wait_s: float = WAIT_S
) -> Iterator[None]:
    """Hold the lock on a deployment's collected answers; readers hold it `shared`.

    Raises LockBusy after wait_s seconds.
    """
    with locked(directory / _LOCK, what, shared=shared, wait_s=wait_s):
        yield


def _is_day(path: Path) -> bool:
    try:
        return _DAY.fullmatch(path.name) is not None and bool(date.fromisoformat(path.stem))
    except ValueError:
        return False
