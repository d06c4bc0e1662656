"""`kawan-usaha data`: what conversation files hold, and what a fine-tune would make of them."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from annotated_types import Ge, Le

from flows.command_line.numbers import decimal, integer
from flows.command_line.output import AS_JSON, bytes_bar, output_file, show
from flows.command_line.sources import TEMPLATE, source_of
from flows.commands.data_forget import forget
from flows.commands.data_review import review
from tasks.core.conversation.checking.rules import ANY_LANGUAGE, Rules
from tasks.core.recipe.data import DataFormat

if TYPE_CHECKING:
    from tasks.core.conversation.examples.labels import Encoder, TokenText
    from tasks.core.conversation.reading.data_files import DataFile
    from tasks.core.conversation.records import BadRecord, Conversation

app = typer.Typer(
    no_args_is_help=True,
    help="Check conversation files, show a record; review and delete what was collected.",
)

File = Annotated[
    str,
    typer.Argument(help="A JSON or JSON-lines file, or a Hub data set: owner/name@revision."),
]
Files = Annotated[
    list[str],
    typer.Argument(
        help="JSON or JSON-lines files, directories of them, or Hub data sets "
        "(owner/name@revision); all are checked together."
    ),
]
Name = Annotated[
    str | None, typer.Option("--file", help="The file to use if a data set has several.")
]
Format = Annotated[
    DataFormat,
    typer.Option("--format", help="Format of the records; auto detects it from the first of them."),
]
Template = Annotated[str | None, TEMPLATE]
MaxLength = Annotated[int, integer("Maximum tokens per conversation; longer ones are cut.", Ge(16))]
Merge = Annotated[
    bool, typer.Option("--merge-neighbours", help="Join consecutive turns of one speaker.")
]


@app.command()
def check(
    files: Files,
    *,
    name: Name = None,
    format: Format = "auto",
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="A model whose tokenizer counts the tokens; by default none are counted."
        ),
    ] = None,
    template: Template = None,
    max_length: MaxLength = 2048,
    language: Annotated[
        str, typer.Option(help=f'ISO 639-1 code of the expected language, or "{ANY_LANGUAGE}".')
    ] = "id",
    merge_neighbours: Merge = False,
    max_dropped_share: Annotated[
        float, decimal("Largest share of bad records that is accepted.", Ge(0), Le(1))
    ] = 0.02,
    picture: Annotated[Path | None, output_file("Draw the lengths into a PNG file.")] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Report every record that cannot be trained on, and summarize the rest.

    Exit code 1 if more records are dropped than allowed. A fine-tune applies the same rules.
    Preference pairs (`chosen` and `rejected`, for `finetune --method dpo`) are detected.

    Example: `kawan-usaha data check data/conversation.json --tokenizer vicuna-13b --picture d.png`
    """
    from tasks.core.conversation.checking.screening import screen
    from tasks.core.conversation.checking.summary import render_summary

    rules = Rules(
        None if language == ANY_LANGUAGE else language,
        merge_neighbours,
        max_dropped_share,
        caller="check",
        method=None,
    )
    bad = list["BadRecord"]()
    with ExitStack() as streams:
        data = [each for file in files for each in _data_files(file, name, format, streams)]
        encoder = _encoder(tokenizer, template, max_length) if tokenizer else None
        with bytes_bar("check") as report:
            found = screen(
                data,
                rules,
                encoder=encoder,
                on_bad=bad.append if as_json else lambda one: typer.echo(str(one)),
                on_progress=report,
            )
    if picture is not None:
        from tasks.core.conversation.checking.picture import draw_lengths

        draw_lengths(found, picture, max_length if tokenizer else None)
    result: dict[str, object] = {
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
    text = render_summary(found)
    show(result, as_json=as_json, text=f"\n{text}" if found.dropped else text)
    if not found.acceptable:
        raise typer.Exit(1)


@app.command("show")
def show_record(
    file: File,
    *,
    record: Annotated[int, integer("Its position, or its line number in JSON lines.", Ge(1))],
    tokenizer: Annotated[str, typer.Option(help="The model whose tokenizer divides the text.")],
    name: Name = None,
    format: Format = "auto",
    template: Template = None,
    max_length: MaxLength = 2048,
    merge_neighbours: Merge = False,
) -> None:
    """Show one record as the model sees it, with the learned tokens in colour.

    Green tokens are learned, grey ones are input only, red ones are cut off. Without colour, ⟦ ⟧
    enclose what is learned. A preference pair is shown once with each answer.

    Example: `kawan-usaha data show data/conversation.json --record 7 --tokenizer vicuna-13b`
    """
    from collections import Counter

    from rich.console import Console

    from flows.commands.data_view import tokens_in_colour
    from tasks.core.conversation.reading.scan import find_record
    from tasks.core.errors import UsageError

    with ExitStack() as streams:
        data, *others = _data_files(file, name, format, streams)
        if others:
            raise UsageError(
                "A record can be shown from one file only.",
                where=file,
                found=f"{1 + len(others)} files",
                next_step=f"Name the file, such as {data.name}.",
            )
        conversation = find_record(data, record, merge_neighbours=merge_neighbours)
    encoder = _encoder(tokenizer, template, max_length)
    console = Console(highlight=False, soft_wrap=True)
    for side, tokens in _explained(encoder, conversation).items():
        console.print(
            tokens_in_colour(tokens, marks=console.color_system is None or console.no_color)
        )
        states = Counter(token.state for token in tokens)
        counts = ", ".join(f"{states[each]} {each}" for each in ("learned", "masked", "truncated"))
        console.print(f"\n{conversation.id}{side}: {len(tokens)} tokens, {counts}")


def _explained(encoder: "Encoder", record: "Conversation") -> "dict[str, tuple[TokenText, ...]]":
    """Return the tokens of a conversation, or of both sides of a preference pair, by side."""
    from tasks.core.conversation.preferences import Preference

    if not isinstance(record, Preference):
        return {"": encoder.explain(record)}
    sides = {
        ", chosen": record.chosen_conversation(),
        ", rejected": record.rejected_conversation(),
    }
    return {name: encoder.explain(side, answers="last") for name, side in sides.items()}


def _encoder(model: str, template: str | None, max_length: int) -> "Encoder":
    from flows.actions.local_models import in_use
    from tasks.core.conversation.examples.labels import Encoder
    from tasks.core.conversation.tokenizer.load import load_tokenizer
    from tasks.core.home import home
    from tasks.core.hub.download.pinned import PinnedSource
    from tasks.core.model.template_record import DEFAULT_TEMPLATE
    from tasks.core.store import Store

    source = source_of(model)
    with in_use(*filter(None, [source.directory])):
        template = template or PinnedSource(source, Store(home())).template() or DEFAULT_TEMPLATE
        tokenizer = load_tokenizer(source.directory or str(source.repo), source.revision)
    return Encoder(tokenizer, template, max_length)


def _data_files(
    text: str, name: str | None, format: DataFormat, streams: ExitStack
) -> "list[DataFile]":
    """Return the files; the content of a stream is kept until `streams` is closed."""
    from tasks.core.conversation.reading.data_files import DataFile
    from tasks.core.conversation.reading.data_sources import files_in
    from tasks.core.files.given import at_rest

    path = _local_file(text, name)
    if path.is_dir():
        return [DataFile(each, str(each), format) for each in files_in(path)]
    return [DataFile(streams.enter_context(at_rest(path)), str(path), format)]


def _local_file(text: str, name: str | None) -> Path:
    """Return the path of a file, downloaded first if it is in a data set."""
    from tasks.core.home import home
    from tasks.core.hub.download.dataset_files import fetch_conversations
    from tasks.core.recipe.file import given_path

    path = given_path(Path(text))
    if path.exists() or text.endswith((".json", ".jsonl")) or "/" not in text:
        return path
    repo, _, revision = text.partition("@")
    return fetch_conversations(repo, revision or "main", home() / "datasets", name)


app.command()(forget)
app.command()(review)
