"""A training that is asked to end (SIGTERM) takes its step to the end first, if it can in time.

Whoever asks kills what has not ended after GRACE_S. So a step that would take longer is given up at
once: what was trained since the last checkpoint is lost either way, and the device is free sooner.
"""

import os
import signal
import time
from collections.abc import Callable

GRACE_S = 7.0
"""What a training is given to end, of the ten seconds that a stop may take."""
_SAVE_S = 2.0
"""Of that, what writing a checkpoint may take: an adapter's is a fraction of a gigabyte."""


class AskedToEnd:
    """Whether this process was asked to end while it trains. Belongs to the main thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_asked = False
        self._clock = clock
        self._begun_s = 0.0
        self._step_s = 0.0

    def listen(self) -> None:
        """Take down SIGTERM from now on, instead of ending by it."""
        self._begun_s = self._clock()
        signal.signal(signal.SIGTERM, self._hear)

    def step_begins(self) -> None:
        """Note when a step begins."""
        self._begun_s = self._clock()

    def step_ends(self) -> None:
        """Note what a step takes. The first one counts too, which takes longest."""
        self._step_s = self._clock() - self._begun_s

    def _hear(self, number: int, _frame: object) -> None:
        self.is_asked = True
        elapsed_s = self._clock() - self._begun_s
        if self._step_s - elapsed_s > GRACE_S - _SAVE_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
