"""`kawan-usaha data`: what conversation files hold, and what a fine-tune would make of them."""

from pathlib import Path
from typing import Annotated

import typer
from annotated_types import Ge, Le

from flows.command_line.numbers import decimal, integer
from flows.command_line.output import AS_JSON, output_file
from flows.command_line.sources import TEMPLATE
from flows.commands.data_forget import forget
from flows.commands.data_review import review
from tasks.core.conversation.checking.rules import ANY_LANGUAGE, Rules
from tasks.core.recipe.data import DataFormat

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
    from flows.actions.data_check import check_files

    rules = Rules(
        None if language == ANY_LANGUAGE else language,
        merge_neighbours,
        max_dropped_share,
        caller="check",
        method=None,
    )
    accepted = check_files(
        files,
        rules,
        name=name,
        format=format,
        tokenizer=tokenizer,
        template=template,
        max_length=max_length,
        picture=picture,
        as_json=as_json,
    )
    if not accepted:
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
    from flows.actions.data_show import show_encoded

    show_encoded(
        file,
        record,
        name=name,
        format=format,
        tokenizer=tokenizer,
        template=template,
        max_length=max_length,
        merge_neighbours=merge_neighbours,
    )


app.command()(forget)
app.command()(review)
