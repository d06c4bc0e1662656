"""Preference pairs: a conversation up to a question, a chosen answer and a rejected one.

Covers three formats: our own, `{"id", "conversations", "chosen", "rejected"}` with FastChat's turns
up to the question, and the two of TRL's data sets, with texts or with messages
(https://huggingface.co/docs/trl/dataset_formats#preference). The invariant: a `Preference` is a
whole conversation that ends with the chosen answer, and the rejected answer differs from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tasks.core.conversation.formats import SPEAKERS
from tasks.core.conversation.records import (
    BadForm,
    BadRecord,
    Conversation,
    RecordFault,
    Turn,
    id_of,
    is_text,
    made_id,
    parse_record,
)

Method = Literal["sft", "dpo"]

EXPECTED = (
    '{"id": ..., "conversations": [{"from": "human", "value": ...}], "chosen": "...", '
    '"rejected": "..."}'
)
_UNNAMED = "unnamed"


@dataclass(frozen=True)
class Preference(Conversation):
    """A conversation whose last answer is preferred to `rejected`, another answer."""

    rejected: str = ""

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield every text of the record that reaches the model, with its place in the record."""
        yield from super().texts()
        yield "rejected", self.rejected

    def chosen_conversation(self) -> Conversation:
        """Return the conversation with the chosen answer."""
        return Conversation(self.id, self.turns, self.system)

    def rejected_conversation(self) -> Conversation:
        """Return the conversation with the rejected answer."""
        last = replace(self.turns[-1], text=self.rejected)
        return Conversation(self.id, (*self.turns[:-1], last), self.system)


def parse_preference(
    raw: object, position: int, *, merge_neighbours: bool = False
) -> Preference | BadRecord:
    """Return the preference pair in a decoded JSON value, or what is wrong with it.

    A record without an `id`, such as TRL's, gets one derived from its texts. `merge_neighbours`
    joins consecutive turns of one speaker before the answers.
    """
    record_id = id_of(raw)
    try:
        if not isinstance(raw, dict):
            raise BadForm(RecordFault.WRONG_FIELDS, f"not an object but {type(raw).__name__}")
        for name in ("chosen", "rejected"):
            if name not in raw:
                raise BadForm(RecordFault.WRONG_FIELDS, f"`{name}` is missing")
        if "id" in raw and record_id is None:
            raise BadForm(RecordFault.WRONG_FIELDS, "`id` is not text")
        turns, chosen, rejected = _parts(raw)
        _require_answers(chosen, rejected)
    except BadForm as bad:
        return BadRecord(position, record_id, bad.fault, str(bad))
    whole = {"id": raw.get("id", _UNNAMED), "conversations": [*turns, _turn("gpt", chosen)]}
    parsed = parse_record(whole, position, merge_neighbours=merge_neighbours)
    if isinstance(parsed, BadRecord):
        return parsed if "id" in raw else replace(parsed, id=None)
    if parsed.turns[-1] != Turn("gpt", chosen):  # merged with an answer before it
        reason = "the conversation ends with an answer, not with a question"
        return BadRecord(position, record_id, RecordFault.WRONG_ORDER, reason)
    texts = [*(text for _, text in parsed.texts()), rejected]
    return Preference(record_id or made_id(texts), parsed.turns, parsed.system, rejected)


def _parts(raw: Mapping[str, object]) -> tuple[list[object], str, str]:
    """Return FastChat's turns up to the question, and both answers."""
    chosen, rejected = raw["chosen"], raw["rejected"]
    if "conversations" in raw:
        turns = raw["conversations"]
        if not isinstance(turns, list):
            raise BadForm(RecordFault.WRONG_FIELDS, "`conversations` is not a list")
        return turns, _answer("chosen", chosen), _answer("rejected", rejected)
    before = _prompt(raw.get("prompt"))
    if not (isinstance(chosen, list) and isinstance(rejected, list)):
        answers = _answer("chosen", chosen), _answer("rejected", rejected)
        if not before:
            raise BadForm(RecordFault.WRONG_FIELDS, "there is no question: name it in `prompt`")
        return [_turn(*each) for each in before], *answers
    one, other = _messages("chosen", chosen), _messages("rejected", rejected)
    if one[:-1] != other[:-1]:
        reason = "`chosen` and `rejected` differ before their last message"
        raise BadForm(RecordFault.WRONG_FIELDS, reason)
    has_prompt = all(each in one[:-1] for each in before)  # both lists may repeat the prompt
    said = one[:-1] if has_prompt else [*before, *one[:-1]]
    return [_turn(*each) for each in said], _last("chosen", one), _last("rejected", other)


def _prompt(value: object) -> list[tuple[str, str]]:
    if value is None:
        return []
    return [("human", value)] if isinstance(value, str) else _messages("prompt", value)


def _answer(name: str, value: object) -> str:
    """Return an answer given as a text or as the only message of a list."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1:
        return _last(name, _messages(name, value))
    raise BadForm(RecordFault.WRONG_FIELDS, f"`{name}` is not text")


def _messages(name: str, value: object) -> list[tuple[str, str]]:
    if not isinstance(value, list) or not value:
        raise BadForm(RecordFault.WRONG_FIELDS, f"`{name}` is neither text nor a list of messages")
    said = []
    for number, each in enumerate(value, start=1):
        role = each.get("role") if isinstance(each, Mapping) else None
        content = each.get("content") if isinstance(each, Mapping) else None
        if not isinstance(role, str) or not isinstance(content, str):
            reason = f"`{name}`, message {number}: `role` or `content` is missing or not text"
            raise BadForm(RecordFault.WRONG_FIELDS, reason)
        said.append((SPEAKERS.get(role, role), content))
    return said


def _last(name: str, messages: list[tuple[str, str]]) -> str:
    speaker, text = messages[-1]
    if speaker != "gpt":
        raise BadForm(RecordFault.NO_ANSWER, f"`{name}` does not end with the assistant's answer")
    return text


def _turn(speaker: str, text: str) -> dict[str, str]:
    return {"from": speaker, "value": text}


def _require_answers(chosen: str, rejected: str) -> None:
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        if not text.strip():
            raise BadForm(RecordFault.EMPTY_TURN, f"`{name}` is empty")
        if not is_text(text):
            raise BadForm(RecordFault.NOT_UTF8, f"`{name}` holds half of a surrogate pair")
    if chosen == rejected:
        raise BadForm(RecordFault.SAME_ANSWERS, "`chosen` and `rejected` are the same answer")
