"""Progress lines of long work, limited to a rate that people want to read."""

import time
from collections.abc import Callable

LINE_INTERVAL_S = 5.0


class Throttled:
    """Passes a line on unless one was passed on in the last `interval_s` seconds."""

    def __init__(
        self,
        say: Callable[[str], None],
        interval_s: float = LINE_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._interval_s = interval_s
        self._clock = clock
        self._said_s = clock()

    def __call__(self, line: str) -> None:
        """Pass the line on, or drop it in favour of a later one."""
        now = self._clock()
        if now - self._said_s >= self._interval_s:
            self._said_s = now
            self._say(line)
