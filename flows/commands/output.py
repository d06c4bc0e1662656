"""What a command prints: JSON for programs, a few lines for people, progress while it works."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydantic_core
import typer
from pydantic import ValidationError

from tasks.core.files.output import require_file_place, require_new
from tasks.core.home import home
from tasks.core.process.log import new_log
from tasks.core.progress import BYTES, Lines, OnProgress

LINE_EVERY_S = 5.0
AS_JSON = typer.Option("--json", help="Print the result as JSON, for programs.")


def _new(out: Path) -> Path:
    require_new(out)
    return out


def _writable(file: Path | None) -> Path | None:
    if file is not None:
        require_file_place(file)
    return file


# Looked at when the words are read: nobody should learn after hours of work that they were for
# nothing.
NEW_DIRECTORY = typer.Argument(help="The new directory. It must not exist yet.", callback=_new)


def output_file(help_text: str) -> Any:
    """Return the option for a file that a command writes in the end."""
    return typer.Option(help=help_text, callback=_writable)


def show(result: object, *, as_json: bool, text: str) -> None:
    """Print the result as JSON, or the text. What is not a finite number is null in JSON."""
    if as_json:
        text = pydantic_core.to_json(result, indent=1, inf_nan_mode="null").decode()
    typer.echo(text)


def problems_of(error: ValidationError, renamed: Mapping[str, str] | None = None) -> str:
    """Return each wrong option and what is wrong with it, in one line.

    renamed has the options that are not called as the field that they set.
    """

    def option(place: tuple[int | str, ...]) -> str:
        names = [name for name in place if isinstance(name, str)]
        if not names:
            return ""
        name = (renamed or {}).get(names[-1], names[-1])
        return f"--{name.replace('_', '-')}: "

    told = ((p["loc"], p["msg"].removeprefix("Value error, ")) for p in error.errors())
    return "; ".join(f"{option(place)}{message}" for place, message in told)


@contextmanager
def followed(
    what: str, unit: str | None = None
) -> Iterator[tuple[OnProgress, Callable[[str], None]]]:
    """Show on the error stream how far the work of a command is, and the lines that it says.

    A bar on a terminal; elsewhere a plain line every LINE_EVERY_S, and a sign of life between.
    Without a unit the work reports no amounts.
    """
    from flows.terminal import PlainLines, Speaker, is_live, kept_alive

    if is_live(sys.stderr):
        with _bar(what, unit) as shown:
            yield shown
        return
    speaker = Speaker(PlainLines(sys.stderr), what.split(maxsplit=1)[0])
    with kept_alive(speaker):
        yield (
            Lines(
                lambda _done, _total, line: speaker.say(line),
                unit=unit or BYTES,
                every_s=LINE_EVERY_S,
            ),
            speaker.say,
        )


@contextmanager
def bytes_bar(what: str) -> Iterator[OnProgress]:
    """Show bytes, rate and time left on the error stream."""
    with followed(what, BYTES) as (on_progress, _):
        yield on_progress


@contextmanager
def _bar(what: str, unit: str | None) -> Iterator[tuple[OnProgress, Callable[[str], None]]]:
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
    """Return the file for all that the programs of a command print."""
    return new_log(home() / "logs" / "commands", name)
