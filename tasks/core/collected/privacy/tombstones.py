"""Tombstones: who had their answers deleted in the last day, so that running requests keep nothing.

The invariant: a person's deleted data does not come back through an answer to an earlier request.
Only hashes are stored, for one day, and few enough to be read on every `keep`.
"""

from datetime import datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from tasks.core.collected.storage.directory import FORGOTTEN
from tasks.core.collected.storage.records import Person
from tasks.core.errors import UsageError
from tasks.core.files.foreign import read_whole
from tasks.core.files.private import write_private

_KEPT_FOR = timedelta(days=1)  # no answer takes longer
_MOST = 10_000
_MAX_BYTES = 2 << 20
_TIMES: TypeAdapter[dict[Person, AwareDatetime]] = TypeAdapter(
    dict[Person, AwareDatetime], config={"hide_input_in_errors": True}
)


def bury(directory: Path, person: str, now: datetime) -> None:
    """Record that a person is forgotten now. The caller holds the lock. Raises OSError."""
    try:
        before = _read(directory)
    except UsageError:  # a damaged file must not keep anybody from being forgotten
        before = {}
    times = {each: time for each, time in before.items() if now - time < _KEPT_FOR}
    times.pop(person, None)
    newest = [*times.items(), (person, now)][-_MOST:]
    write_private(directory / FORGOTTEN, _TIMES.dump_json(dict(newest)))


def is_buried(directory: Path, person: str, begun: datetime) -> bool:
    """Return whether a person was forgotten after a request of theirs began.

    The caller holds the lock. Raises OSError, and UsageError for a damaged file.
    """
    time = _read(directory).get(person)
    return time is not None and begun <= time


def clear_away(directory: Path, now: datetime) -> None:
    """Remove expired tombstones. The caller holds the lock. Raises OSError and UsageError."""
    before = _read(directory)
    times = {each: time for each, time in before.items() if now - time < _KEPT_FOR}
    if not times:
        (directory / FORGOTTEN).unlink(missing_ok=True)
    elif len(times) < len(before):
        write_private(directory / FORGOTTEN, _TIMES.dump_json(times))


def _read(directory: Path) -> dict[str, datetime]:
    path = directory / FORGOTTEN
    try:
        return _TIMES.validate_json(read_whole(path, error=UsageError, max_bytes=_MAX_BYTES))
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise UsageError(
            "The list of who was forgotten today is damaged.",
            where=path,
            expected="a JSON object of hashes and times",
            next_step="Remove it once the answers that run now have ended: until then, one of "
            "somebody who had theirs deleted could be kept.",
        ) from None
