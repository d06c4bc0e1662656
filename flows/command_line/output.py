"""The output of a command: JSON for programs, text for people, progress while it works."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pydantic_core
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from flows.terminal.colours import takes_colours
from flows.terminal.views import CommandLines, PlainLines, showing_heartbeat
from tasks.core.files.output import require_file_place, require_new
from tasks.core.home import home
from tasks.core.process.log import new_log
from tasks.core.progress import BYTES, Lines, OnProgress

PLAIN_LINE_EVERY_S = 5.0
AS_JSON = typer.Option("--json", help="Print the result as JSON, for programs.")
AsJson = Annotated[bool, AS_JSON]


def _new(out: Path) -> Path:
    require_new(out)
    return out


def _writable(file: Path | None) -> Path | None:
    if file is not None:
        require_file_place(file)
    return file


# Checked while the arguments are parsed, so that hours of work do not end at a wrong path.
NEW_DIRECTORY = typer.Argument(help="The new directory. It must not exist yet.", callback=_new)


def output_file(help_text: str) -> Any:
    """Return the option for a file that a command writes at its end."""
    return typer.Option(help=help_text, callback=_writable)


def show(result: object, *, as_json: bool, text: str) -> None:
    """Print the result as JSON, or the text. In JSON a number that is not finite is null."""
    if as_json:
        text = pydantic_core.to_json(result, indent=1, inf_nan_mode="null").decode()
    typer.echo(text)


def option_errors(error: ValidationError, renamed: Mapping[str, str] | None = None) -> str:
    """Return each wrong option and what is wrong with it, in one line.

    `renamed` maps fields to the options that set them under another name.
    """

    def option(place: tuple[int | str, ...]) -> str:
        names = [name for name in place if isinstance(name, str)]
        if not names:
            return ""
        name = (renamed or {}).get(names[-1], names[-1])
        return f"--{name.replace('_', '-')}: "

    errors = ((p["loc"], p["msg"].removeprefix("Value error, ")) for p in error.errors())
    return "; ".join(f"{option(place)}{message}" for place, message in errors)


@contextmanager
def showing_progress(
    what: str, unit: str | None = None
) -> Iterator[tuple[OnProgress, Callable[[str], None]]]:
    """Show the progress of a command on stderr; yields where to report it, and its lines.

    A bar on a terminal; elsewhere a plain line every PLAIN_LINE_EVERY_S, and a heartbeat between.
    Without a unit, no amounts are shown.
    """
    if takes_colours(sys.stderr):
        with _bar(what, unit) as shown:
            yield shown
        return
    lines = CommandLines(PlainLines(sys.stderr), what.split(maxsplit=1)[0])
    with showing_heartbeat(lines):
        yield (
            Lines(
                lambda _done, _total, line: lines.show_line(line),
                unit=unit or BYTES,
                every_s=PLAIN_LINE_EVERY_S,
            ),
            lines.show_line,
        )


@contextmanager
def bytes_bar(what: str) -> Iterator[OnProgress]:
    """Show bytes, rate and time left on stderr."""
    with showing_progress(what, BYTES) as (on_progress, _):
        yield on_progress


@contextmanager
def _bar(what: str, unit: str | None) -> Iterator[tuple[OnProgress, Callable[[str], None]]]:
    amounts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), TimeRemainingColumn())
    if unit == BYTES:
        speed = TransferSpeedColumn()
        amounts = (DownloadColumn(binary_units=False), speed, TimeRemainingColumn())
    elif unit is None:
        amounts = (TimeElapsedColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *amounts)
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=None)

        def on_progress(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        def say(line: str) -> None:
            progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield on_progress, say


def command_log(name: str) -> Path:
    """Return the file for the output of a command's programs."""
    return new_log(home() / "logs" / "commands", name)


def delete_by_hand(artifacts: Iterable[str]) -> list[str]:
    """Return a line for each artifact with a copy at the remote store, which we do not delete."""
    return [f"to be deleted at the remote store by hand: {name}" for name in artifacts]
