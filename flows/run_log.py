"""The log of a run that was started from the command line: where each record of it goes.

The lines of this project, and the errors of others, appear on the terminal. All of it, with what
Prefect and other libraries say, is in a file. What concerns the run is on its page, as Prefect has
set it up. No list of other people's messages is kept here.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.terminal import LiveView, PlainLines, Speaker, View, event_kind, is_live, kept_alive
from tasks.core.errors import KawanUsahaError
from tasks.core.home import PROJECT, home
from tasks.core.process.log import new_log

_OURS = tuple(str(PROJECT / name) + os.sep for name in ("flows", "tasks"))
_RUNS = ("prefect.flow_runs", "prefect.task_runs")
_NAME = "rebuild"


@contextmanager
def run_shown(recipe: str, *, quiet: bool) -> Iterator[None]:
    """Show the run of a recipe on the error stream while the block runs, and keep its whole log.

    quiet leaves only the errors of others. The address of the run's page is shown where a server
    is configured, as a temporary one shows no pages.
    """
    with ExitStack() as stack:
        view: View = PlainLines(sys.stderr)
        if is_live(sys.stderr) and not quiet:
            view = stack.enter_context(LiveView(sys.stderr))
        speaker = Speaker(view, _NAME)
        if not quiet:
            speaker.say(f"{recipe}: loading Prefect", kind="begin")
            stack.enter_context(kept_alive(speaker))
        from prefect.settings import PREFECT_API_URL  # the import sets up Prefect's own logging

        terminal = _Terminal(speaker, quiet=quiet, has_page=bool(PREFECT_API_URL.value()))
        log = _whole_log(recipe)
        stack.enter_context(_logging_to(terminal, *log))
        try:
            yield
        except Exception as error:
            _keep(error, log)
            raise


@contextmanager
def _logging_to(*handlers: logging.Handler) -> Iterator[None]:
    """Send the records of all libraries to these handlers; Prefect sends to its API as ever."""
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
    except OSError:  # where nothing can be written, the first stage says so
        return []
    form = "%(asctime)s %(levelname)s %(name)s %(task_run_name)s: %(message)s"
    handler.setFormatter(logging.Formatter(form, defaults={"task_run_name": "-"}))
    return [handler]


def _keep(error: Exception, log: list[logging.Handler]) -> None:
    """Put the error that ends a run into its log, with its traceback; the command prints it."""
    record = logging.makeLogRecord({"name": __name__, "levelno": logging.ERROR})
    record.levelname, record.msg, record.args = "ERROR", "The run ended: %s", (error,)
    record.exc_info = (type(error), error, error.__traceback__)
    for handler in log:
        handler.handle(record)


class _Terminal(logging.Handler):
    """Shows what a person needs of a run's records."""

    def __init__(self, speaker: Speaker, *, quiet: bool, has_page: bool) -> None:
        super().__init__(logging.ERROR if quiet else logging.INFO)
        self._speaker, self._has_page = speaker, has_page
        self._stage = _NAME

    def emit(self, record: logging.LogRecord) -> None:
        """Show the record, if it is for a person."""
        try:
            text = record.getMessage()
            is_address = self._has_page and record.name in _RUNS and text.startswith("View at ")
            if is_address or _is_for_a_person(record):
                prefix = "warning: " if record.levelno == logging.WARNING else ""
                self._speaker.show(record, self._stage_of(record), prefix + text)
        except Exception:  # noqa: BLE001 - as in every handler: logging fails no work
            self.handleError(record)

    def _stage_of(self, record: logging.LogRecord) -> str:
        """Return the stage of a line; core's lines, which know none, are of the one that works."""
        if getattr(record, "flow_name", None) is None:
            return self._stage
        stage = str(getattr(record, "task_name", None) or _NAME)
        self._stage = _NAME if event_kind(record) == "end" else stage
        return stage


def _is_for_a_person(record: logging.LogRecord) -> bool:
    """Return whether a line is ours, or an error that nobody else tells.

    The error that ends a run is printed by the command, as the last thing. What Prefect says of
    runs, our lines say in fewer words.
    """
    arguments = record.args if isinstance(record.args, tuple) else ()
    if any(isinstance(argument, KawanUsahaError) for argument in arguments):
        return False
    if record.pathname.startswith(_OURS):
        return True
    return record.levelno >= logging.ERROR and record.name not in _RUNS
