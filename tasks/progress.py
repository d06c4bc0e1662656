"""The log of a stage while it runs: its lines, its progress, and a heartbeat.

Every line goes to the run's logger, which shows it where the run was started and on the run's page.
A record's `stage_event` tells a listener what kind of line it is. The invariant: a running stage is
never silent for longer than SILENT_S.
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
from tasks.outbox import Page, flush

_log = logging.getLogger(__name__)

REPORT_EVERY_S = 2.0
SILENT_S = 8.0

RunLogger = logging.Logger | logging.LoggerAdapter[logging.Logger]


@dataclass(frozen=True)
class StageEvent:
    """What a line of a stage means: it begins, reports progress, is alive, or ends.

    `bar` is progress for a view that draws it; the stage has logged it in another line already.
    """

    kind: Literal["begin", "progress", "bar", "alive", "end"]
    done: int = 0
    total: int = 0
    ok: bool = True


class Stage:
    """A running stage. `outcome` is its last line."""

    def __init__(self, logger: RunLogger) -> None:
        self.outcome = "done"
        self._logger = logger
        self._run = getattr(logger, "extra", None) or {}
        self._began = self._last_line = time.monotonic()
        self._progress = ""

    def log(self, line: str, event: StageEvent | None = None) -> None:
        """Log a line of the stage, from any thread."""
        kind = None if event is None else event.kind
        if kind in ("progress", "bar"):
            self._progress = line
        if kind == "bar":  # not through the run's logger, which would show it as a line
            _log.info("%s", line, extra={**self._run, "stage_event": event})
            return
        self._last_line = time.monotonic()
        # The run page has the stage's state and its progress: it needs no heartbeat.
        extra = {"stage_event": event, "send_to_api": kind != "alive"}
        self._logger.info("%s", line, extra=extra)

    def begin(self) -> None:
        """Log that the stage begins."""
        self.log("begins", StageEvent("begin"))

    def end(self, error: BaseException | None) -> None:
        """Log how the stage ended."""
        if error is None:
            self.log(self.outcome, StageEvent("end"))
            return
        what = error.what if isinstance(error, KawanUsahaError) else type(error).__name__
        how = "failed" if isinstance(error, Exception) else "interrupted"
        took = duration(time.monotonic() - self._began)
        self.log(f"{how} after {took}: {what}", StageEvent("end", ok=False))

    def send_heartbeats(self, ended: threading.Event) -> None:
        """Log "still working" whenever the stage was silent for SILENT_S."""
        while not ended.wait(max(0.01, self._last_line + SILENT_S - time.monotonic())):
            if time.monotonic() - self._last_line >= SILENT_S:
                took = duration(time.monotonic() - self._began)
                progress = f"; {self._progress}" if self._progress else ""
                self.log(f"still working, {took}{progress}", StageEvent("alive"))


_CURRENT: ContextVar[Stage | None] = ContextVar("stage", default=None)


@contextmanager
def shown_stage() -> Iterator[Stage]:
    """Log the begin, the heartbeats and the end of the stage whose task runs in this block."""
    stage, ended = Stage(_run_logger()), threading.Event()
    heartbeats = threading.Thread(
        target=copy_context().run,
        args=(stage.send_heartbeats, ended),
        name="heartbeat",
        daemon=True,
    )
    before = _CURRENT.set(stage)
    error: BaseException | None = None
    try:
        stage.begin()
        heartbeats.start()
        yield stage
    except BaseException as raised:
        error = raised
        raise
    finally:
        _CURRENT.reset(before)
        ended.set()
        if heartbeats.is_alive():
            heartbeats.join(1.0)  # or a heartbeat could follow the last line
        stage.end(error)
        if error is None or isinstance(error, Exception):  # an interrupt does not wait
            flush()


def log_line(line: str) -> None:
    """Log a line of the stage that runs in this context."""
    (_CURRENT.get() or Stage(_run_logger())).log(line)


def log_warning(line: str) -> None:
    """Log a warning of the stage that runs in this context."""
    _run_logger().warning("%s", line)


_RECIPE: ContextVar[str | None] = ContextVar("recipe", default=None)


@contextmanager
def working_for(recipe: str) -> Iterator[None]:
    """Name the recipe whose stages run in this block, for their logs and notices."""
    before = _RECIPE.set(recipe)
    try:
        yield
    finally:
        _RECIPE.reset(before)


def recipe_name() -> str | None:
    """Return the name of the recipe that is being built here."""
    return _RECIPE.get()


def output_log(stage: str) -> Path:
    """Return the file for the output of a stage's programs, in the directory of its recipe."""
    return new_log(home() / "logs" / (recipe_name() or "commands"), stage)


class StageProgress:
    """Reports amounts, rate and time left, as lines and as a progress artifact of Prefect's.

    It belongs to the run in which it is created; any thread may report. The artifact appears with
    the first report after REPORT_EVERY_S: a stage that is done at once needs none. Without `log`
    the stage logs its steps itself, and the artifact shows `text` instead of amounts and rate.
    """

    def __init__(self, what: str, unit: str = BYTES, *, log: bool = True) -> None:
        self.text = ""
        self._what, self._log = what, log
        self._stage = _CURRENT.get() or Stage(_run_logger())
        self._page = Page("progress")
        self._lines = Lines(self._show, unit=unit, every_s=REPORT_EVERY_S)

    def __call__(self, done: int, total: int) -> None:
        """Report progress; shown at most every REPORT_EVERY_S."""
        if total > 0:
            self._lines(done, total)

    def _show(self, done: int, total: int, line: str) -> None:
        text = self.text or line
        self._stage.log(text, StageEvent("progress" if self._log else "bar", done, total))
        self._page.show(100.0 * done / total, f"{self._what}: {text}")


def _run_logger() -> RunLogger:
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)
