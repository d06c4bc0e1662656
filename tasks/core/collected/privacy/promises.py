"""The retention that people were told when they agreed: the shorter of it and the recipe's holds.

A recipe may be changed to keep answers for longer; this does not affect earlier consent. The
invariant: the promise for a day is on disk before any answer of that day.
"""

import logging
from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from tasks.core.collected.storage.directory import PROMISED
from tasks.core.errors import UsageError
from tasks.core.files.foreign import read_whole
from tasks.core.files.private import write_private

_LOG = logging.getLogger(__name__)
_MAX_BYTES = 1 << 20  # a century of days
_DAYS: TypeAdapter[dict[date, int]] = TypeAdapter(dict[date, Annotated[int, Field(ge=1)]])


def promised(directory: Path) -> Mapping[date, int]:
    """Return the promised number of days for the answers of each day. Raises OSError.

    Empty, with a warning, if the file is damaged: then the current limit holds for all days.
    """
    path = directory / PROMISED
    try:
        return _DAYS.validate_json(read_whole(path, error=UsageError, max_bytes=_MAX_BYTES))
    except FileNotFoundError:
        return {}
    except (ValidationError, UsageError):
        _LOG.warning("%s is damaged: earlier promises are unknown", path)
        return {}


def promise(directory: Path, today: date, days: int, kept: Collection[date]) -> None:
    """Record how long today's answers may be kept, and drop days without kept answers.

    The caller holds the lock. Raises OSError.
    """
    before = promised(directory)
    if before.get(today, days + 1) <= days:
        return
    stays = {day: before[day] for day in sorted(before) if day in kept}
    write_private(directory / PROMISED, _DAYS.dump_json(stays | {today: days}))
