"""The log of a run from the command line: which records go where.

The terminal shows this project's lines and the errors of libraries. A file has everything, Prefect
and the other libraries included. Prefect itself sends what belongs to the run to the run's page.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.terminal.colours import takes_colours
from flows.terminal.views import (
    CommandLines,
    LiveView,
    PlainLines,
    View,
    event_kind,
    showing_heartbeat,
)
from tasks.core.errors import KawanUsahaError
from tasks.core.home import PROJECT, home
from tasks.core.process.log import new_log

_OURS = tuple(str(PROJECT / name) + os.sep for name in ("flows", "tasks"))
_RUNS = ("prefect.flow_runs", "prefect.task_runs")
_NAME = "rebuild"


@contextmanager
def run_shown(recipe: str, *, quiet: bool) -> Iterator[None]:
    """Show the run of a recipe on stderr while the block runs, and write its whole log to a file.

    With `quiet` only errors of libraries are shown. The address of the run's page is shown where a
    server is configured: a temporary one has no UI.
    """
    with ExitStack() as stack:
        view: View = PlainLines(sys.stderr)
        if takes_colours(sys.stderr) and not quiet:
            view = stack.enter_context(LiveView(sys.stderr))
        lines = CommandLines(view, _NAME)
        if not quiet:
            lines.show_line(f"{recipe}: loading Prefect", kind="begin")
            stack.enter_context(showing_heartbeat(lines))
        # Takes seconds, hence the line above. It also sets up Prefect's own logging.
        from prefect.settings import PREFECT_API_URL

        terminal = _Terminal(lines, quiet=quiet, has_page=bool(PREFECT_API_URL.value()))
        log = _whole_log(recipe)
        stack.enter_context(_logging_to(terminal, *log))
        try:
            yield
        except Exception as error:
            _keep(error, log)
            raise


@contextmanager
def _logging_to(*handlers: logging.Handler) -> Iterator[None]:
    """Send the records of all libraries to these handlers; Prefect still sends to its API."""
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in ("flows", "tasks")]
    before, levels = root.handlers[:], [each.level for each in ours]
    raises, logging.raiseExceptions = logging.raiseExceptions, False  # a lost line is no error
    root.handlers[:] = handlers
    for each in ours:
        each.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.raiseExceptions = raises
        for each, level in zip(ours, levels, strict=True):
            each.setLevel(level)
        root.handlers[:] = before
        for handler in handlers:
            handler.close()


def _whole_log(recipe: str) -> list[logging.Handler]:
    file = new_log(home() / "logs" / Path(recipe).name, _NAME)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file, encoding="utf-8")
    except OSError:  # the first stage reports a directory that is not writable
        return []
    form = "%(asctime)s %(levelname)s %(name)s %(task_run_name)s: %(message)s"
    handler.setFormatter(logging.Formatter(form, defaults={"task_run_name": "-"}))
    return [handler]


def _keep(error: Exception, log: list[logging.Handler]) -> None:
    """Log the error that ends a run, with its traceback; the command prints the message."""
    record = logging.makeLogRecord({"name": __name__, "levelno": logging.ERROR})
    record.levelname, record.msg, record.args = "ERROR", "The run ended: %s", (error,)
    record.exc_info = (type(error), error, error.__traceback__)
    for handler in log:
        handler.handle(record)


class _Terminal(logging.Handler):
    """Shows the records of a run that are meant for a person."""

    def __init__(self, lines: CommandLines, *, quiet: bool, has_page: bool) -> None:
        super().__init__(logging.ERROR if quiet else logging.INFO)
        self._lines, self._has_page = lines, has_page
        self._stage = _NAME

    def emit(self, record: logging.LogRecord) -> None:
        """Show the record if it is meant for a person."""
        try:
            text = record.getMessage()
            is_address = self._has_page and record.name in _RUNS and text.startswith("View at ")
            if is_address or _is_for_a_person(record):
                prefix = "warning: " if record.levelno == logging.WARNING else ""
                self._lines.show(record, self._stage_of(record), prefix + text)
        except Exception:  # noqa: BLE001 - logging must not fail the run
            self.handleError(record)

    def _stage_of(self, record: logging.LogRecord) -> str:
        """Return the stage of a record; one of core, which names none, is of the current stage."""
        if getattr(record, "flow_name", None) is None:
            return self._stage
        stage = str(getattr(record, "task_name", None) or _NAME)
        self._stage = _NAME if event_kind(record) == "end" else stage
        return stage


def _is_for_a_person(record: logging.LogRecord) -> bool:
    """Return whether the record is of this project, or an error that is shown nowhere else.

    The command prints the error that ends the run last. Prefect's own lines about runs repeat ours.
    """
    arguments = record.args if isinstance(record.args, tuple) else ()
    if any(isinstance(argument, KawanUsahaError) for argument in arguments):
        return False
    if record.pathname.startswith(_OURS):
        return True
    return record.levelno >= logging.ERROR and record.name not in _RUNS
