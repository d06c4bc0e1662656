"""Progress of long-running work: reported without knowing who listens, worded in one place."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

OnProgress = Callable[[int, int], None]
"""Called with (done, total), both in the work's own unit: bytes for weights, steps for training.

May be called from any thread, and often: a listener that draws must limit its own rate.
"""

BYTES = "bytes"
_SCALES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "B"))


def silent(done: int, total: int) -> None:
    """Ignore the report."""


class Tally:
    """Adds up the progress of many threads for one listener."""

    def __init__(self, total: int, on_progress: OnProgress, done: int = 0) -> None:
        """Start from what was done before, and report it."""
        self._total, self._on_progress, self._done = total, on_progress, done
        self._lock = threading.Lock()
        on_progress(done, total)

    def add(self, amount: int) -> None:
        """Add to the count, and report it."""
        with self._lock:
            self._done += amount
            done = self._done
        self._on_progress(done, self._total)


class Lines:
    """A listener that turns reports into lines of text, at most one per every_s seconds.

    The first line comes after every_s: work that takes less needs none. The end gets one line of
    its own. Work that an earlier attempt had done before the first report is not in the rate.
    """

    def __init__(
        self, show: Callable[[int, int, str], None], *, unit: str = BYTES, every_s: float
    ) -> None:
        """`show` is called with (done, total, line), in the thread that reports."""
        self._show, self._unit, self._every_s = show, unit, every_s
        self._shown = time.monotonic()
        self._begin: tuple[float, int] | None = None
        self._has_shown = self._has_ended = False
        self._lock = threading.Lock()

    def __call__(self, done: int, total: int) -> None:
        """Take a report."""
        with self._lock:
            now = time.monotonic()
            began, done_before = self._begin = self._begin or (now, done)
            ends = done >= total and self._has_shown and not self._has_ended
            due = done < total and now - self._shown >= self._every_s
            if not (ends or due):
                return
            self._shown, self._has_shown, self._has_ended = now, True, ends
            elapsed_s = now - began
            rate = max(0, done - done_before) / elapsed_s if elapsed_s > 0 else 0.0
        self._show(done, total, progress_line(done, total, rate, elapsed_s, self._unit))


def progress_line(done: int, total: int, rate: float, elapsed_s: float, unit: str = BYTES) -> str:
    """Return the progress, the rate and the time left in one line; at the end, the time it took.

    rate is in units a second, 0 if unknown.
    """
    speed = [f"{quantity(rate, unit)}/s"] if rate > 0 else []
    if done >= total:
        return ", ".join(["100%", quantity(total, unit), *speed, f"took {duration(elapsed_s)}"])
    amounts = f"{quantity(done, unit, like=total)} of {quantity(total, unit)}"
    left = [f"{timedelta(seconds=round((total - done) / rate))} left"] if rate > 0 else []
    return ", ".join([f"{_percent(done, total)}", amounts, *speed, *left])


def quantity(amount: float, unit: str = BYTES, *, like: float | None = None) -> str:
    """Return an amount in a fitting unit: decimal kB, MB, GB for bytes.

    With `like`, it is written at the scale of that amount and without the unit.
    """
    model = amount if like is None else like
    scale, name = next((each for each in _SCALES if model >= each[0]), _SCALES[-1])
    if unit != BYTES:
        scale, name = 1, unit
    decimals = 0 if isinstance(model, int) and scale == 1 else _decimals(model / scale)
    text = f"{amount / scale:,.{decimals}f}"
    return text if like is not None else f"{text} {name}"


def _decimals(number: float) -> int:
    return 2 if number < 10 else 1 if number < 100 else 0


def _percent(done: int, total: int) -> str:
    return f"{int(100 * done / total)}%"  # not rounded: 100% only when all is done


def duration(wall_s: float) -> str:
    """Return 0.4 s, 41 s, 3 min 09 s or 2 h 05 min."""
    if wall_s < 10:
        return f"{wall_s:.1f} s"
    if wall_s < 59.5:
        return f"{wall_s:.0f} s"
    minutes, seconds = divmod(round(wall_s), 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02} min" if hours else f"{minutes} min {seconds:02} s"
