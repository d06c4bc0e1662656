"""The time now, for records of which one has to be the last: never before what is on record.

A machine's clock is set back by an hour, or was a year ahead until somebody noticed. What came last
must still count as the last: the release that a model is held against, the deployment to go back
to, what `prune` keeps. Durations are measured by `time.monotonic`, which knows of none of this.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

_TICK = timedelta(microseconds=1)


def now_after(stamps: Iterable[datetime | None]) -> datetime:
    """Return the time now, or one just after the last of these where the clock is behind it."""
    return max([datetime.now(UTC), *(stamp + _TICK for stamp in stamps if stamp is not None)])
