"""How lines appear on the terminal: a live view where it is one, plain lines where it is not.

Knows nothing of where the lines come from, but what `tasks.progress` adds to a record: the event
that it stands for. It imports nothing slow, so that the first line comes at once.
"""

import logging
import os
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

SILENT_S = 10.0
_NAME_WIDTH = 14


class View(Protocol):
    """Where lines appear."""

    def show(self, record: logging.LogRecord, name: str, text: str) -> None:
        """Show what a record says, for the stage or command of this name."""


def is_live(stream: TextIO) -> bool:
    """Return whether a view that redraws itself is wanted there: on a terminal with colours."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


class PlainLines:
    """A line for everything: the time, the name, the words."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, record: logging.LogRecord, name: str, text: str) -> None:
        """Write a line; a text of several lines stands below it as it is."""
        if event_kind(record) != "bar":
            head = f"{_clock(record)}  {name:<{_NAME_WIDTH}} "
            line = f"{head.rstrip()}\n{text}" if "\n" in text else head + text
            self._stream.write(line + "\n")
            self._stream.flush()


class LiveView:
    """Lines that stay, and below them a row for each stage that works, which changes in place."""

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


class Speaker:
    """Says lines of a command in a view. `spoke` is when anything was last shown there."""

    def __init__(self, view: View, name: str) -> None:
        self.spoke = time.monotonic()
        self._view, self._name = view, name

    def say(self, text: str, kind: str | None = None) -> None:
        """Show a line of the command."""
        record = logging.makeLogRecord({"stage_event": SimpleNamespace(kind=kind)})
        self.show(record, self._name, text)

    def show(self, record: logging.LogRecord, name: str, text: str) -> None:
        """Show a line of something that the command runs."""
        self.spoke = time.monotonic()
        self._view.show(record, name, text)


@contextmanager
def kept_alive(speaker: Speaker) -> Iterator[None]:
    """Show a sign of life whenever nothing else was shown for SILENT_S."""
    began, ended = time.monotonic(), threading.Event()

    def watch() -> None:
        while not ended.wait(max(0.01, speaker.spoke + SILENT_S - time.monotonic())):
            if time.monotonic() - speaker.spoke >= SILENT_S:
                speaker.say(f"still working, {time.monotonic() - began:.0f} s", kind="alive")

    threading.Thread(target=watch, name="sign-of-life", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def event_kind(record: logging.LogRecord) -> str | None:
    """Return what the record stands for in the life of its stage, None for any other line."""
    return getattr(getattr(record, "stage_event", None), "kind", None)


def _clock(record: logging.LogRecord) -> str:
    return time.strftime("%H:%M:%S", time.localtime(record.created))


def _style(record: logging.LogRecord) -> str:
    failed = getattr(getattr(record, "stage_event", None), "ok", True) is False
    if record.levelno >= logging.ERROR or failed:
        return "red"
    return "yellow" if record.levelno == logging.WARNING else ""
