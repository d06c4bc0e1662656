"""Lines that say how far a long piece of work is, no more often than anybody wants to read them."""

import time
from collections.abc import Callable

QUIET_S = 5.0


class Seldom:
    """Hands a line on if none was handed on in the last `quiet_s` seconds, else drops it."""

    def __init__(
        self,
        say: Callable[[str], None],
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._quiet_s = quiet_s
        self._clock = clock
        self._said_s = clock()

    def __call__(self, line: str) -> None:
        """Take a line that the next one replaces."""
        now = self._clock()
        if now - self._said_s >= self._quiet_s:
            self._said_s = now
            self._say(line)
