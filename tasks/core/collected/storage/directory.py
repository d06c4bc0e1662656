"""The directory of a deployment's collected answers: the names of its files, and their lock.

    2026-11-30.jsonl   answers and ratings of a UTC day, one JSON object a line
    reviews.jsonl      decisions of reviewers
    salt               with which the ids of people are hashed
    promised.json      how long the answers of each day may be kept (privacy/promises.py)
    forgotten.json     who had their answers deleted in the last day (privacy/tombstones.py)
    .all-over          since when all days seem to be over at once (privacy/retention.py)
    .lock              held to write, to rewrite, and to read for an artifact

The invariant: only the owner has access to the directory, and no file in it is rewritten, or read
for an artifact, without the lock.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from tasks.core.files.listing import matching
from tasks.core.files.locks import WAIT_S, locked

COLLECTED = "collected"
"""The name of the directory, below that of its deployment."""
REVIEWS_FILE = "reviews.jsonl"
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
def directory_lock(
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
