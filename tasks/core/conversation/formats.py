"""Which format a record is in, recognised from its fields. Pure.

FastChat's format, OpenAI's and the variants of ShareGPT's can be read (`reading.dialects`). Every
other format that is recognised has a name and instructions to convert it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

ReadAs = Literal["fastchat", "openai", "sharegpt", "preferences"]
NAMES: Mapping[ReadAs, str] = {
    "fastchat": "FastChat's format",
    "openai": "OpenAI's format",
    "sharegpt": "ShareGPT's format",
    "preferences": "preferences",
}
LISTS = (
    *("conversations", "conversation", "dialog", "dialogue", "turns", "items", "history"),
    "messages",
)
"""Fields that hold the turns in variants of ShareGPT's format."""
SPEAKERS: Mapping[str, str] = (
    dict.fromkeys(("human", "user", "prompter"), "human")
    | dict.fromkeys(("gpt", "assistant", "chatgpt", "bot", "bing", "bard", "model"), "gpt")
    | dict.fromkeys(("system", "developer"), "system")
)
"""FastChat's name for each speaker, by every name that the formats use."""
SPEAKER_FIELDS = ("from", "role", "speaker")
TURN_FIELDS = frozenset({"from", "value", "role", "content", "speaker", "user", "human"})
"""Fields that tell a turn from a record, in every format."""

_SCRIPT = 'docs/data.md, "Other formats", has a script.'
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
    """A recognised format: its name, and how it is read or how to convert it."""

    name: str
    remedy: str = ""
    read_as: ReadAs | None = None


def format_of(value: object) -> Format | None:
    """Return the likeliest format of a record, None if no format is recognised."""
    return next(formats_of(value), None)


def formats_of(value: object) -> Iterator[Format]:
    """Yield every format that a record may be in, the likeliest first."""
    if isinstance(value, str):
        yield Format("texts, without speakers", "Divide each into turns of `human` and `gpt`.")
    elif isinstance(value, list) and _is_turns(value):
        yield _variant("lists of turns")
    elif isinstance(value, Mapping):
        yield from _candidates(value)


def is_preference(raw: object) -> bool:
    """Return whether a decoded JSON value looks like a preference pair.

    A record whose turns end with an answer is a conversation, whatever its other fields, unless
    `chosen` and `rejected` come with the question: then the turns only repeat the chosen answer.
    """
    if not isinstance(raw, Mapping) or raw.get("chosen") is None or raw.get("rejected") is None:
        return False
    with_question = "prompt" in raw or isinstance(raw["chosen"], list)
    return not _is_answered(raw) or (with_question and "conversations" not in raw)


def _is_answered(record: Mapping[str, object]) -> bool:
    """Return whether the record has turns, and the last of them is the assistant's."""
    turns = next((each for name in LISTS if isinstance(each := record.get(name), list)), None)
    last = turns[-1] if turns else None
    if not isinstance(last, Mapping):
        return False
    who = next((last[name] for name in SPEAKER_FIELDS if name in last), None)
    return isinstance(who, str) and SPEAKERS.get(who.lower()) == "gpt"


def looks_like(value: object, *, not_as: ReadAs) -> str:
    """Return a hint for a record that cannot be read in its file's format: what it looks like."""
    other = format_of(value)
    return f"; it looks like {other.name}" if other is not None and other.read_as != not_as else ""


def take_out(field: str) -> str:
    """Return instructions to extract the records from a field of a file's only object."""
    return (
        'Take them out: `python -c "import json, sys; print(json.dumps(json.load(sys.stdin)'
        f"['{field}']))\" < FILE > NEW`."
    )


def field_of_records(value: object) -> str | None:
    """Return the field of an object that holds records rather than turns, None if there is none."""
    if not isinstance(value, dict):
        return None
    for name, held in value.items():
        first = held[0] if isinstance(held, list) and held else None
        if isinstance(first, dict) and not first.keys() & TURN_FIELDS:
            return str(name)
    return None


def _candidates(record: Mapping[str, object]) -> Iterator[Format]:
    if is_preference(record):
        yield Format("pairs of a chosen and a rejected answer", read_as="preferences")
        if not _is_answered(record):
            return
    conversations = record.get("conversations")
    if _is_turns(conversations):
        yield _sharegpt(record, conversations)
        return  # whatever else it has, it is FastChat's
    message = _first(record.get("messages"))
    if "role" in message and message.keys() & {"content", "tool_calls", "function_call"}:
        yield Format("OpenAI's format: `messages` with `role` and `content`", read_as="openai")
        return  # no ShareGPT variant has the other fields of a message, such as tool calls
    for name in LISTS:
        if _is_turns(record.get(name)):
            yield _variant(f"turns in the field `{name}`")
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


def _sharegpt(record: Mapping[str, object], turns: object) -> Format:
    """Return the variant of ShareGPT's format, or FastChat's own format."""
    first = _first(turns)
    has_own = {"from", "value"} <= first.keys()  # further fields are ignored
    if not has_own and first.keys() & {"role", "content", "text", "speaker"}:
        return _variant(f"turns with the fields {', '.join(f'`{name}`' for name in first)}")
    who = str(first.get("from"))
    if SPEAKERS.get(who.lower(), who) != who:
        return _variant(f"the speaker `{first['from']}`")
    if "id" not in record:
        return _variant("records without an `id`")
    if isinstance(record.get("system"), str) and str(record["system"]).strip():
        return _variant("the system message in the field `system`")
    return Format(NAMES["fastchat"], read_as="fastchat")


def _variant(what: str) -> Format:
    return Format(f"ShareGPT's format: {what}", read_as="sharegpt")


def _first(turns: object) -> Mapping[str, object]:
    return turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], Mapping) else {}


def _is_turns(value: object) -> bool:
    """Return whether this looks like a list of turns: objects with a speaker and a text."""
    return bool(_first(value).keys() & TURN_FIELDS)
