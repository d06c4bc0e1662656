"""The formats of conversations that people have, told apart by a look at one record. Pure.

Only FastChat's is read. The others get a name, and how to make FastChat's of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tasks.core.conversation.layout import TURN_FIELDS, field_of_records, take_out

_SCRIPT = 'docs/data.md, "Other formats", has a script.'
_LISTS = ("conversation", "dialog", "dialogue", "turns", "items", "history", "messages")
_PAIRS = (
    ("instruction", "output"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
)


@dataclass(frozen=True)
class Format:
    """A format that is not FastChat's, in words, and how to make FastChat's of it."""

    name: str
    remedy: str


def format_of(value: object) -> Format | None:
    """Return what format a record is in, None for FastChat's and for what nobody knows."""
    if isinstance(value, str):
        return Format("texts, without speakers", "Divide each into turns of `human` and `gpt`.")
    if isinstance(value, list):
        return _turns_alone(value)
    if not isinstance(value, Mapping):
        return None
    return next((found for found in _candidates(value) if found is not None), None)


def _candidates(record: Mapping[str, object]) -> Iterator[Format | None]:
    conversations = record.get("conversations")
    if _is_turns(conversations):
        yield _sharegpt(record, conversations)
        return  # whatever else it has, it is FastChat's
    if _is_turns(record.get("messages")):
        yield Format(
            "OpenAI's chat format: `messages` with `role` and `content`",
            "Rename `messages` to `conversations`, `role` to `from` (user is human, assistant is "
            f"gpt) and `content` to `value`, and give each record an `id`; {_SCRIPT}",
        )
    for name in _LISTS:
        if _is_turns(record.get(name)):
            yield Format(
                f"turns in the field `{name}`",
                f"Rename it to `conversations`, with `from` and `value` in each turn; {_SCRIPT}",
            )
    if {"chosen", "rejected"} <= record.keys():
        yield Format(
            "pairs of a chosen and a rejected answer, for training by preference",
            "Make a conversation of the prompt and the chosen answer.",
        )
    for question, answer in _PAIRS:
        if isinstance(record.get(question), str) and isinstance(record.get(answer), str):
            alpaca = question == "instruction"
            yield Format(
                f"{'Alpaca: ' if alpaca else ''}a question in `{question}` and its answer in "
                f"`{answer}`",
                f"Make two turns of each record: `{question}`"
                f"{' and `input`' if alpaca else ''} from human, `{answer}` from gpt; {_SCRIPT}",
            )
    if isinstance(record.get("text"), str):
        yield Format("texts in the field `text`, without speakers", "Divide each into turns.")
    field = field_of_records(record)
    if field is not None:
        yield Format(f"one JSON object with the records in its field `{field}`", take_out(field))


def _sharegpt(record: Mapping[str, object], turns: object) -> Format | None:
    """Return which variant of ShareGPT's format this is; None for FastChat's own."""
    first = turns[0] if isinstance(turns, list) else {}
    has_own = {"from", "value"} <= first.keys()  # what stands beside them is ignored
    if not has_own and first.keys() & {"role", "content", "text", "speaker"}:
        names = ", ".join(f"`{name}`" for name in first)
        return Format(
            f"a variant of ShareGPT whose turns have the fields {names}",
            f"Rename them to `from` and `value` (user is human, assistant is gpt); {_SCRIPT}",
        )
    if first.get("from") in ("user", "assistant", "chatgpt", "bot", "bing", "model"):
        return Format(
            f"a variant of ShareGPT with the speaker `{first['from']}`",
            f"Rename the speakers to human and gpt; {_SCRIPT}",
        )
    if "id" not in record:
        return Format(
            "a variant of ShareGPT whose records have no `id`", f"Give each one an `id`; {_SCRIPT}"
        )
    if isinstance(record.get("system"), str) and str(record["system"]).strip():
        return Format(
            "a variant of ShareGPT with the system message in the field `system`",
            f"Write it as the first turn, `from` system; {_SCRIPT}",
        )
    return None


def _turns_alone(value: list[object]) -> Format | None:
    if not _is_turns(value):
        return None
    return Format(
        "lists of turns", f"Make an object of each, with `id` and `conversations`; {_SCRIPT}"
    )


def _is_turns(value: object) -> bool:
    """Return whether this looks like a list of turns: objects with a speaker and a text."""
    if not isinstance(value, list) or not value or not isinstance(value[0], Mapping):
        return False
    return bool(value[0].keys() & TURN_FIELDS)
