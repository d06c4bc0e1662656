"""How the lines of a run or command are shown: a live view on a terminal, else plain lines.

Of where the lines come from it knows only the `stage_event` that `tasks.progress` adds to a record.
It imports nothing slow, so that the first line appears at once.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

HEARTBEAT_AFTER_S = 10.0
_NAME_WIDTH = 14


class View(Protocol):
    """Shows lines."""

    def show(self, record: logging.LogRecord, name: str, text: str) -> None:
        """Show the text of a record of the stage or command `name`."""


class PlainLines:
    """One line for each record: time, name, text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, record: logging.LogRecord, name: str, text: str) -> None:
        """Write a line; a text of several lines follows below it as it is."""
        if event_kind(record) != "bar":
            head = f"{_clock(record)}  {name:<{_NAME_WIDTH}} "
            line = f"{head.rstrip()}\n{text}" if "\n" in text else head + text
            self._stream.write(line + "\n")
            self._stream.flush()


class LiveView:
    """Lines that stay, and below them a row for each running stage, which is redrawn in place."""

    def __init__(self, stream: TextIO) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", style="cyan"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
        )
        self._progress = Progress(*columns, console=Console(file=stream), transient=True)
        self._rows: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, record: logging.LogRecord, name: str, text: str) -> None:
        """Write a line, or change the row of the stage."""
        kind = event_kind(record)
        if kind == "begin":
            self._rows[name] = self._progress.add_task(name, total=None, words="")
        elif kind in ("progress", "bar") and name in self._rows:
            event = getattr(record, "stage_event", None)
            done, total = getattr(event, "done", None), getattr(event, "total", None)
            self._progress.update(self._rows[name], completed=done, total=total, words=text)
        elif kind == "end" and name in self._rows:
            self._progress.remove_task(self._rows.pop(name))
        if kind in (None, "end"):
            self._print(record, name, text)

    def _print(self, record: logging.LogRecord, name: str, text: str) -> None:
        line = Text(f"{_clock(record)}  ", style="dim")
        line.append(f"{name:<{_NAME_WIDTH}} ", style="not dim cyan")
        line.append(f"\n{text}" if "\n" in text else text, style=f"not dim {_style(record)}")
        self._progress.console.print(line, soft_wrap=True)


class CommandLines:
    """Shows the lines of a command in a view. `last_shown` is when it last showed any."""

    def __init__(self, view: View, name: str) -> None:
        self.last_shown = time.monotonic()
        self._view, self._name = view, name

    def show_line(self, text: str, kind: str | None = None) -> None:
        """Show a line of the command itself."""
        record = logging.makeLogRecord({"stage_event": SimpleNamespace(kind=kind)})
        self.show(record, self._name, text)

    def show(self, record: logging.LogRecord, name: str, text: str) -> None:
        """Show a line of a stage or program that the command runs."""
        self.last_shown = time.monotonic()
        self._view.show(record, name, text)


@contextmanager
def showing_heartbeat(lines: CommandLines) -> Iterator[None]:
    """Show "still working" whenever nothing was shown for HEARTBEAT_AFTER_S."""
    began, ended = time.monotonic(), threading.Event()

    def watch() -> None:
        while not ended.wait(max(0.01, lines.last_shown + HEARTBEAT_AFTER_S - time.monotonic())):
            if time.monotonic() - lines.last_shown >= HEARTBEAT_AFTER_S:
                lines.show_line(f"still working, {time.monotonic() - began:.0f} s", kind="alive")

    threading.Thread(target=watch, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def event_kind(record: logging.LogRecord) -> str | None:
    """Return the kind of stage event that the record carries, None for any other line."""
    return getattr(getattr(record, "stage_event", None), "kind", None)


def _clock(record: logging.LogRecord) -> str:
    return time.strftime("%H:%M:%S", time.localtime(record.created))


def _style(record: logging.LogRecord) -> str:
    failed = getattr(getattr(record, "stage_event", None), "ok", True) is False
    if record.levelno >= logging.ERROR or failed:
        return "red"
    return "yellow" if record.levelno == logging.WARNING else ""
