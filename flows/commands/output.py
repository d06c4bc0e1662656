"""What a command prints: JSON for programs, a few lines for people, progress while it works."""

from collections.abc import Iterator
from contextlib import contextmanager

import pydantic_core
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from tasks.core.progress import Report

AS_JSON = typer.Option("--json", help="Print the result as JSON, for programs.")


def show(result: object, *, as_json: bool, text: str) -> None:
    """Print the result as JSON, or the text. What is not a finite number is null in JSON."""
    if as_json:
        text = pydantic_core.to_json(result, indent=1, inf_nan_mode="null").decode()
    typer.echo(text)


def problems_of(error: ValidationError) -> str:
    """Return each wrong field and what is wrong with it, in one line."""
    return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())


@contextmanager
def bytes_bar(what: str) -> Iterator[Report]:
    """Show bytes, rate and time left on the terminal's error stream, and nothing in a file."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=False),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        yield report
