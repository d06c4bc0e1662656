"""A training that is asked to end (SIGTERM) finishes its step first, if there is time.

The sender kills any process that is still running after TRAINING_GRACE_S. So a step that would take
longer is given up at once: the work since the last checkpoint is lost either way, and the device is
free sooner.
"""

import os
import signal
import time
from collections.abc import Callable

TRAINING_GRACE_S = 7.0
"""The seconds in which a training may end, of the ten that a stop may take."""
_SAVE_S = 2.0
"""The part of it for writing a checkpoint: an adapter's is a fraction of a gigabyte."""


class StopRequest:
    """A request (SIGTERM) to end while this process trains. Belongs to the main thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_asked = False
        self._clock = clock
        self._begun_s = 0.0
        self._step_s = 0.0

    def listen(self) -> None:
        """Note SIGTERM from now on, instead of ending by it."""
        self._begun_s = self._clock()
        signal.signal(signal.SIGTERM, self._note)

    def step_begins(self) -> None:
        """Note when a step starts."""
        self._begun_s = self._clock()

    def step_ends(self) -> None:
        """Note how long a step takes. The first one, which takes longest, counts as well."""
        self._step_s = self._clock() - self._begun_s

    def _note(self, number: int, _frame: object) -> None:
        self.is_asked = True
        elapsed_s = self._clock() - self._begun_s
        if self._step_s - elapsed_s > TRAINING_GRACE_S - _SAVE_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
