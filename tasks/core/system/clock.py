"""Timestamps for records that are ordered by time: never earlier than those on record.

A clock may be set back by an hour, or have been a year ahead until somebody noticed. The latest
record must still count as the latest: the release that a model is compared with, the deployment to
roll back to, what `prune` keeps. Durations use `time.monotonic`, which is not affected.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

_TICK = timedelta(microseconds=1)


def now_after(stamps: Iterable[datetime | None]) -> datetime:
    """Return the time now, or just after the latest of these if the clock is behind it."""
    return max([datetime.now(UTC), *(stamp + _TICK for stamp in stamps if stamp is not None)])
