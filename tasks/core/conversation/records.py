"""One record of FastChat's conversation format, checked.

Covers what can be judged from the record alone: its fields, the order of the speakers, empty and
undecodable text. Duplicates, language and length are not judged here. The invariant: a
`Conversation` begins with a human, alternates, and holds at least one answer.
"""

from dataclasses import dataclass
from typing import Literal

Speaker = Literal["human", "gpt"]


@dataclass(frozen=True)
class Turn:
    """What one speaker says in one go."""

    speaker: Speaker
    text: str


@dataclass(frozen=True)
class Conversation:
    """Alternating turns, human first; `system` replaces the template's own system message."""

    id: str
    turns: tuple[Turn, ...]
    system: str | None = None


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be learned from; `position` counts from 1."""

    position: int
    id: str | None
    reason: str

    def __str__(self) -> str:
        name = f" ({self.id})" if self.id else ""
        return f"record {self.position}{name}: {self.reason}"


class _Bad(Exception):
    pass


def parse_record(raw: object, position: int) -> Conversation | BadRecord:
    """Return the conversation that a decoded JSON value describes, or what is wrong with it.

    The format is FastChat's: {"id": ..., "conversations": [{"from": "human" | "gpt", "value": ...},
    ...]}, with an optional first turn from "system". Other fields are ignored.
    """
    record_id = _id_of(raw)
    try:
        if not isinstance(raw, dict):
            raise _Bad(f"not an object but {type(raw).__name__}")
        if record_id is None:
            raise _Bad("`id` is missing or not text")
        return _conversation(record_id, raw.get("conversations"))
    except _Bad as bad:
        return BadRecord(position, record_id, str(bad))


def _id_of(raw: object) -> str | None:
    value = raw.get("id") if isinstance(raw, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value)


def _conversation(record_id: str, raw_turns: object) -> Conversation:
    if not isinstance(raw_turns, list):
        raise _Bad("`conversations` is missing or not a list")
    said = [_turn(raw, number) for number, raw in enumerate(raw_turns, start=1)]
    system = said.pop(0)[1] if said and said[0][0] == "system" else None
    turns = tuple(
        Turn(_expected(speaker, "gpt" if i % 2 else "human", i + 1 + (system is not None)), text)
        for i, (speaker, text) in enumerate(said)
    )
    if len(turns) < 2:
        raise _Bad("no turn of the assistant")
    return Conversation(record_id, turns, system)


def _turn(raw: object, number: int) -> tuple[str, str]:
    if not isinstance(raw, dict):
        raise _Bad(f"turn {number} is not an object")
    speaker, text = raw.get("from"), raw.get("value")
    if not isinstance(speaker, str):
        raise _Bad(f"turn {number}: `from` is missing or not text")
    if not isinstance(text, str):
        raise _Bad(f"turn {number}: `value` is missing or not text")
    if not text.strip():
        raise _Bad(f"turn {number} is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Bad(f"turn {number} holds half of a surrogate pair, which is no text") from None
    return speaker, text


def _expected(speaker: str, expected: Speaker, number: int) -> Speaker:
    if speaker == expected:
        return expected
    if speaker not in ("human", "gpt", "system"):
        raise _Bad(f'turn {number}: unknown speaker "{speaker}"; expected human or gpt')
    raise _Bad(f"turn {number}: {speaker} speaks where {expected} is expected")
