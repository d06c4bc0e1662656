"""Print one record of a conversation file as the model sees it."""

from collections import Counter
from contextlib import ExitStack

from rich.console import Console

from flows.actions.data_files import data_files
from flows.actions.encoder import encoder_of
from flows.actions.token_colours import tokens_in_colour
from tasks.core.conversation.examples.labels import Encoder, TokenText
from tasks.core.conversation.preferences import Preference
from tasks.core.conversation.reading.scan import find_record
from tasks.core.conversation.records import Conversation
from tasks.core.errors import UsageError
from tasks.core.recipe.data import DataFormat


def show_encoded(
    file: str,
    record: int,
    *,
    name: str | None,
    format: DataFormat,
    tokenizer: str,
    template: str | None,
    max_length: int,
    merge_neighbours: bool,
) -> None:
    """Print the tokens of a record, and how many of them are learned, masked and cut off."""
    with ExitStack() as streams:
        data, *others = data_files(file, name, format, streams)
        if others:
            raise UsageError(
                "A record can be shown from one file only.",
                where=file,
                found=f"{1 + len(others)} files",
                next_step=f"Name the file, such as {data.name}.",
            )
        conversation = find_record(data, record, merge_neighbours=merge_neighbours)
    encoder = encoder_of(tokenizer, template, max_length)
    console = Console(highlight=False, soft_wrap=True)
    for side, tokens in _explained(encoder, conversation).items():
        console.print(
            tokens_in_colour(tokens, marks=console.color_system is None or console.no_color)
        )
        states = Counter(token.state for token in tokens)
        counts = ", ".join(f"{states[each]} {each}" for each in ("learned", "masked", "truncated"))
        console.print(f"\n{conversation.id}{side}: {len(tokens)} tokens, {counts}")


def _explained(encoder: Encoder, record: Conversation) -> dict[str, tuple[TokenText, ...]]:
    """Return the tokens of a conversation, or of both sides of a preference pair, by side."""
    if not isinstance(record, Preference):
        return {"": encoder.explain(record)}
    sides = {
        ", chosen": record.chosen_conversation(),
        ", rejected": record.rejected_conversation(),
    }
    return {name: encoder.explain(side, answers="last") for name, side in sides.items()}
