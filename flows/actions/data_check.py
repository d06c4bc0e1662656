"""Check conversation files; print each record that cannot be trained on, and a summary."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import typer

from flows.actions.data_files import data_files
from flows.actions.encoder import encoder_of
from flows.command_line.output import bytes_bar, show
from tasks.core.conversation.checking.findings import Screening
from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.checking.screening import screen
from tasks.core.conversation.checking.summary import render_summary
from tasks.core.conversation.records import BadRecord
from tasks.core.recipe.data import DataFormat


def check_files(
    files: Sequence[str],
    rules: Rules,
    *,
    name: str | None,
    format: DataFormat,
    tokenizer: str | None,
    template: str | None,
    max_length: int,
    picture: Path | None,
    as_json: bool,
) -> bool:
    """Return whether the files are accepted; draw the lengths if a picture is asked for."""
    bad = list[BadRecord]()
    with ExitStack() as streams:
        data = [each for file in files for each in data_files(file, name, format, streams)]
        encoder = encoder_of(tokenizer, template, max_length) if tokenizer else None
        with bytes_bar("check") as report:
            found = screen(
                data,
                rules,
                encoder=encoder,
                on_bad=bad.append if as_json else lambda one: typer.echo(str(one)),
                on_progress=report,
            )
    if picture is not None:
        from tasks.core.conversation.checking.picture import draw_lengths  # needs matplotlib

        draw_lengths(found, picture, max_length if tokenizer else None)
    text = render_summary(found)
    show(_plain(found, bad), as_json=as_json, text=f"\n{text}" if found.dropped else text)
    return found.acceptable


def _plain(found: Screening, bad: Sequence[BadRecord]) -> dict[str, object]:
    return {
        "file": found.name,
        "files": [
            {
                "file": each.file.name,
                "format": each.file.format,
                "records": each.records,
                "dropped": each.dropped,
            }
            for each in found.files
        ],
        "accepted": found.acceptable,
        "records": found.records,
        "kept": found.kept,
        "dropped": found.dropped,
        "dropped_share": found.dropped_share,
        "faults": {fault.value: count for fault, count in found.faults.items()},
        "total": asdict(found.total),
        "lengths": [asdict(one) for one in found.lengths.classes()],
        "lengths_unit": found.lengths.unit,
        "bad": [{**asdict(one), "fault": one.fault.value} for one in bad],
    }
