"""For how many days people were told that their answers would be kept: the shorter time holds.

A recipe can be changed to keep more for longer; what people agreed to before is not changed by it.
The invariant: the promise for a day is on the disk before any answer of that day.
"""

import logging
from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from tasks.core.collected.place import PROMISED
from tasks.core.errors import UsageError
from tasks.core.files.foreign import read_whole
from tasks.core.files.private import write_private

_LOG = logging.getLogger(__name__)
_MAX_BYTES = 1 << 20  # a century of days
_DAYS: TypeAdapter[dict[date, int]] = TypeAdapter(dict[date, Annotated[int, Field(ge=1)]])


def promised(directory: Path) -> Mapping[date, int]:
    """Return for how long the answers of each day may be kept at most. Raises OSError.

    Nothing, with a warning, where the file is damaged: then the present limit holds for all days.
    """
    path = directory / PROMISED
    try:
        return _DAYS.validate_json(read_whole(path, error=UsageError, max_bytes=_MAX_BYTES))
    except FileNotFoundError:
        return {}
    except (ValidationError, UsageError):
        _LOG.warning("%s is damaged: what was promised before is not known", path)
        return {}


def promise(directory: Path, today: date, days: int, kept: Collection[date]) -> None:
    """Write down for how long today's answers may be kept; days of which nothing is kept go.

    The caller holds the lock. Raises OSError.
    """
    before = promised(directory)
    if before.get(today, days + 1) <= days:
        return
    stays = {day: before[day] for day in sorted(before) if day in kept}
    write_private(directory / PROMISED, _DAYS.dump_json(stays | {today: days}))
