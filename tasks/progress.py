"""How a stage is followed while it works: its lines, how far it is, and a sign of life.

Every line goes to the run's logger, which shows it wherever the run was started from and on its
page. A listener knows what kind of line it is by the record's `stage_event`. The invariant: a stage
that works is never silent for longer than SILENT_S.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prefect import get_run_logger
from prefect.exceptions import MissingContextError

from tasks.core.errors import KawanUsahaError
from tasks.core.home import home
from tasks.core.process.log import new_log
from tasks.core.progress import BYTES, Lines, duration
from tasks.telling import Page, flush

_log = logging.getLogger(__name__)

REPORT_EVERY_S = 2.0
SILENT_S = 8.0

RunLogger = logging.Logger | logging.LoggerAdapter[logging.Logger]


@dataclass(frozen=True)
class StageEvent:
    """What a line of a stage means: it begins, is so far, works on, or ends in this way.

    `bar` is how far it is, for a view that draws it; the stage has said so in another line.
    """

    kind: Literal["begin", "progress", "bar", "alive", "end"]
    done: int = 0
    total: int = 0
    ok: bool = True


class Stage:
    """A stage that works. `outcome` is what its last line says."""

    def __init__(self, logger: RunLogger) -> None:
        self.outcome = "done"
        self._logger = logger
        self._run = getattr(logger, "extra", None) or {}
        self._began = self._spoke = time.monotonic()
        self._far = ""

    def say(self, line: str, event: StageEvent | None = None) -> None:
        """Show a line of the stage. Any thread may."""
        kind = None if event is None else event.kind
        if kind in ("progress", "bar"):
            self._far = line
        if kind == "bar":  # not with the run's logger, which would show it as a line everywhere
            _log.info("%s", line, extra={**self._run, "stage_event": event})
            return
        self._spoke = time.monotonic()
        # The run page has the stage's state and its progress: it needs no sign of life.
        extra = {"stage_event": event, "send_to_api": kind != "alive"}
        self._logger.info("%s", line, extra=extra)

    def begin(self) -> None:
        """Say that the stage begins."""
        self.say("begins", StageEvent("begin"))

    def end(self, error: BaseException | None) -> None:
        """Say how the stage has ended."""
        if error is None:
            self.say(self.outcome, StageEvent("end"))
            return
        what = error.what if isinstance(error, KawanUsahaError) else type(error).__name__
        how = "failed" if isinstance(error, Exception) else "interrupted"
        took = duration(time.monotonic() - self._began)
        self.say(f"{how} after {took}: {what}", StageEvent("end", ok=False))

    def keep_alive(self, ended: threading.Event) -> None:
        """Show a sign of life whenever nothing else was shown for SILENT_S."""
        while not ended.wait(max(0.01, self._spoke + SILENT_S - time.monotonic())):
            if time.monotonic() - self._spoke >= SILENT_S:
                took = duration(time.monotonic() - self._began)
                far = f"; {self._far}" if self._far else ""
                self.say(f"still working, {took}{far}", StageEvent("alive"))


_CURRENT: ContextVar[Stage | None] = ContextVar("stage", default=None)


@contextmanager
def followed() -> Iterator[Stage]:
    """Show the begin, the life and the end of the stage whose task runs in this block."""
    stage, ended = Stage(_run_logger()), threading.Event()
    keep_alive = threading.Thread(
        target=copy_context().run, args=(stage.keep_alive, ended), name="sign-of-life", daemon=True
    )
    before = _CURRENT.set(stage)
    error: BaseException | None = None
    try:
        stage.begin()
        keep_alive.start()
        yield stage
    except BaseException as raised:
        error = raised
        raise
    finally:
        _CURRENT.reset(before)
        ended.set()
        if keep_alive.is_alive():
            keep_alive.join(1.0)  # or its line could come after the last one
        stage.end(error)
        if error is None or isinstance(error, Exception):  # whoever interrupts does not wait
            flush()


def say(line: str) -> None:
    """Show a line of the stage that runs in this context."""
    (_CURRENT.get() or Stage(_run_logger())).say(line)


def warn(line: str) -> None:
    """Show a warning of the stage that runs in this context."""
    _run_logger().warning("%s", line)


_RECIPE: ContextVar[str | None] = ContextVar("recipe", default=None)


@contextmanager
def working_for(recipe: str) -> Iterator[None]:
    """Let logs and notices of what works in the block carry the name of its recipe."""
    before = _RECIPE.set(recipe)
    try:
        yield
    finally:
        _RECIPE.reset(before)


def recipe_name() -> str | None:
    """Return the recipe that this code works for, whatever its flow run is called."""
    return _RECIPE.get()


def output_log(stage: str) -> Path:
    """Return the file for all that the programs of a stage print, in a directory of its recipe."""
    return new_log(home() / "logs" / (recipe_name() or "commands"), stage)


class StageProgress:
    """A Report that shows amounts, rate and time left as lines and as a Prefect progress artifact.

    It belongs to the run in which it is made; any thread may report. The artifact appears with the
    first report that comes later than REPORT_EVERY_S: a stage that is done at once needs none. With
    `log` off the stage shows its steps itself, and what it said last (`said`) stands in the
    artifact in place of amounts and rate.
    """

    def __init__(self, what: str, unit: str = BYTES, *, log: bool = True) -> None:
        self.said = ""
        self._what, self._log = what, log
        self._stage = _CURRENT.get() or Stage(_run_logger())
        self._page = Page("progress")
        self._lines = Lines(self._show, unit=unit, every_s=REPORT_EVERY_S)

    def __call__(self, done: int, total: int) -> None:
        """Take over how far the work is; shown at most every REPORT_EVERY_S."""
        if total > 0:
            self._lines(done, total)

    def _show(self, done: int, total: int, line: str) -> None:
        words = self.said or line
        self._stage.say(words, StageEvent("progress" if self._log else "bar", done, total))
        self._page.show(100.0 * done / total, f"{self._what}: {words}")


def _run_logger() -> RunLogger:
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)
