"""What a command prints: JSON for programs, a few lines for people, progress while it works."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from pydantic import BaseModel
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


def show(result: BaseModel | dict[str, object] | list[object], *, as_json: bool, text: str) -> None:
    """Print the result as JSON, or the text."""
    if not as_json:
        typer.echo(text)
        return
    plain = result.model_dump(mode="json") if isinstance(result, BaseModel) else result
    typer.echo(json.dumps(plain, ensure_ascii=False, indent=1, default=_plain))


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")


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
