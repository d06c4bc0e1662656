"""One record in FastChat's conversation format: parsed, or refused with the reason.

Covers what the record alone can show: its fields, the order of the speakers, empty and undecodable
text. Length, language, personal data and duplicates are checked by `checking`. The invariant: a
`Conversation` begins with a human turn, alternates, and holds at least one answer.
"""

import enum
import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from tasks.core.conversation.formats import looks_like

Speaker = Literal["human", "gpt"]
_MADE_ID_BYTES = 6


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    speaker: Speaker
    text: str


@dataclass(frozen=True)
class Conversation:
    """Alternating turns, human first; `system` replaces the template's own system message."""

    id: str
    turns: tuple[Turn, ...]
    system: str | None = None

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield every text of the record that reaches the model, with its place in the record."""
        if self.system is not None:
            yield "turn 1 (system)", self.system
        for number, turn in enumerate(self.turns, start=1 if self.system is None else 2):
            yield f"turn {number}", turn.text


class RecordFault(enum.Enum):
    """What can be wrong with a record: one value for each remedy."""

    NOT_JSON = "not JSON"
    NOT_UTF8 = "not UTF-8"
    WRONG_FIELDS = "wrong fields"
    UNKNOWN_SPEAKER = "unknown speaker"
    WRONG_ORDER = "wrong order of speakers"
    EMPTY_TURN = "empty turn"
    NO_ANSWER = "no turn of the assistant"
    SAME_ANSWERS = "nothing to prefer"
    MARK_IN_TEXT = "mark of the template in a text"
    TOO_LONG = "too long"
    PERSONAL_DATA = "personal data"
    OTHER_LANGUAGE = "other language"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near duplicate"


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be trained on.

    `position` counts from 1 in an array; in JSON lines it is the line number. `file` is the name of
    the file, set only where several are read.
    """

    position: int
    id: str | None
    fault: RecordFault
    reason: str
    file: str | None = None

    def __str__(self) -> str:
        name = f" ({self.id})" if self.id else ""
        return f"{record_location(self.position, self.file)}{name}: {self.reason}"


def record_location(position: int, file: str | None = None) -> str:
    """Return the position of a record in words, with the name of its file if one is given."""
    return f"{file}, record {position}" if file else f"record {position}"


class BadForm(Exception):
    """A record breaks the rules of its format; the message says where."""

    def __init__(self, fault: RecordFault, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault


def parse_record(
    raw: object, position: int, *, merge_neighbours: bool = False
) -> Conversation | BadRecord:
    """Return the conversation in a decoded JSON value, or what is wrong with it.

    The format is FastChat's: {"id": ..., "conversations": [{"from": "human" | "gpt", "value": ...},
    ...]}, with an optional first turn from "system". Other fields are ignored. With
    `merge_neighbours`, consecutive turns of one speaker are joined into one, with an empty line
    between them.
    """
    record_id = id_of(raw)
    try:
        if not isinstance(raw, dict):
            raise BadForm(RecordFault.WRONG_FIELDS, f"not an object but {type(raw).__name__}")
        if record_id is None:
            raise BadForm(
                RecordFault.WRONG_FIELDS,
                f"`id` is missing or not text{looks_like(raw, not_as='fastchat')}",
            )
        if not is_text(str(raw["id"])):
            raise BadForm(RecordFault.NOT_UTF8, "`id` is not UTF-8")
        _require_own_fields(raw)
        return _conversation(record_id, raw["conversations"], merge_neighbours)
    except BadForm as bad:
        return BadRecord(position, record_id, bad.fault, str(bad))


def id_of(raw: object) -> str | None:
    """Return the id of a record, safe to print; None if it has none."""
    value = raw.get("id") if isinstance(raw, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value).encode("utf-8", "replace").decode()


def _require_own_fields(raw: dict[str, object]) -> None:
    if not isinstance(raw.get("conversations"), list):
        reason = f"`conversations` is missing or not a list{looks_like(raw, not_as='fastchat')}"
        raise BadForm(RecordFault.WRONG_FIELDS, reason)
    if isinstance(raw.get("system"), str) and str(raw["system"]).strip():
        reason = "the system message stands in the field `system`, not in a first turn"
        raise BadForm(RecordFault.WRONG_FIELDS, reason)


def _conversation(record_id: str, raw_turns: list[object], merge_neighbours: bool) -> Conversation:
    said = [(number, *_turn(raw, number)) for number, raw in enumerate(raw_turns, start=1)]
    system = said.pop(0)[2] if said and said[0][1] == "system" else None
    if merge_neighbours:
        said = _merged(said)
    turns = tuple(
        Turn(_expected(speaker, "gpt" if i % 2 else "human", number), text)
        for i, (number, speaker, text) in enumerate(said)
    )
    if len(turns) < 2:
        raise BadForm(RecordFault.NO_ANSWER, "no turn of the assistant")
    return Conversation(record_id, turns, system)


def _turn(raw: object, number: int) -> tuple[str, str]:
    if not isinstance(raw, dict):
        raise BadForm(RecordFault.WRONG_FIELDS, f"turn {number} is not an object")
    speaker, text = raw.get("from"), raw.get("value")
    if not isinstance(speaker, str):
        raise BadForm(RecordFault.WRONG_FIELDS, f"turn {number}: `from` is missing or not text")
    if not isinstance(text, str):
        raise BadForm(RecordFault.WRONG_FIELDS, f"turn {number}: `value` is missing or not text")
    if not text.strip():
        raise BadForm(RecordFault.EMPTY_TURN, f"turn {number} is empty")
    if not is_text(text):
        raise BadForm(
            RecordFault.NOT_UTF8,
            f"turn {number} holds half of a surrogate pair, or a byte that is not UTF-8",
        )
    return speaker, text


def made_id(words: object) -> str:
    """Return an id for a record that has none: a hash of its texts, as lists and dictionaries."""
    return blake2b(json.dumps(words).encode(), digest_size=_MADE_ID_BYTES).hexdigest()


def is_text(text: str) -> bool:
    """Return whether the text can be encoded as UTF-8; half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _merged(said: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    merged: list[tuple[int, str, str]] = []
    for number, speaker, text in said:
        if merged and merged[-1][1] == speaker:
            first, _, before = merged[-1]
            merged[-1] = (first, speaker, f"{before}\n\n{text}")
        else:
            merged.append((number, speaker, text))
    return merged


def _expected(speaker: str, expected: Speaker, number: int) -> Speaker:
    if speaker == expected:
        return expected
    if speaker not in ("human", "gpt", "system"):
        raise BadForm(
            RecordFault.UNKNOWN_SPEAKER,
            f'turn {number}: unknown speaker "{speaker}"; expected human or gpt',
        )
    raise BadForm(
        RecordFault.WRONG_ORDER, f"turn {number}: {speaker} speaks where {expected} is expected"
    )
