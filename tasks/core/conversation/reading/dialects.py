"""Records of other formats, translated into FastChat's: the only place that knows the differences.

Texts are copied unchanged; only fields and speakers are renamed. Whether the result is a valid
conversation is decided by `records`. The invariant: a record that would be trained on differently
than its author meant is refused, not read.
"""

from collections.abc import Callable, Iterator, Mapping

from tasks.core.conversation.formats import LISTS, SPEAKER_FIELDS, SPEAKERS, ReadAs, looks_like
from tasks.core.conversation.preferences import parse_preference
from tasks.core.conversation.records import (
    BadForm,
    BadRecord,
    Conversation,
    RecordFault,
    id_of,
    made_id,
    parse_record,
)

_TEXT_FIELDS = ("value", "content", "text")
_Message = tuple[str, str]
"""The speaker, in the record's own word, and the text."""


def parse_as(
    raw: object, position: int, read_as: ReadAs, *, merge_neighbours: bool = False
) -> Conversation | BadRecord:
    """Return the conversation in a decoded JSON value, or what is wrong with it.

    `merge_neighbours` as in `parse_record`. A record without an id, which only FastChat's format
    requires, gets one derived from its texts.
    """
    if read_as == "preferences":
        return parse_preference(raw, position, merge_neighbours=merge_neighbours)
    if read_as != "fastchat":
        try:
            raw = _TO_FASTCHAT[read_as](raw)
        except BadForm as bad:
            return BadRecord(position, id_of(raw), bad.fault, str(bad))
    return parse_record(raw, position, merge_neighbours=merge_neighbours)


def _from_openai(raw: object) -> dict[str, object]:
    """Translate a record with OpenAI's `messages`.

    Source: https://platform.openai.com/docs/guides/supervised-fine-tuning, "Formatting your data".
    """
    messages = raw.get("messages") if isinstance(raw, Mapping) else None
    if not isinstance(messages, list):
        raise _wrong_fields(
            f"`messages` is missing or not a list{looks_like(raw, not_as='openai')}"
        )
    said = [_message(each, number) for number, each in enumerate(messages, start=1)]
    return _record(raw, said)


def _message(raw: object, number: int) -> _Message:
    if not isinstance(raw, Mapping):
        raise _wrong_fields(f"turn {number} is not an object")
    if raw.get("weight") not in (None, 1):
        raise _wrong_fields(
            f"turn {number}: `weight` is {raw['weight']!r:.20}, and every answer of a conversation "
            "is learned here"
        )
    if raw.get("tool_calls") or raw.get("function_call"):
        raise _wrong_fields(f"turn {number} calls a tool, which no template here can write")
    content = raw.get("content")
    if isinstance(content, list):
        content = "\n".join(_part(each, number) for each in content)
    if not isinstance(content, str):
        raise _wrong_fields(f"turn {number}: `content` is missing or not text")
    role = raw.get("role")
    if not isinstance(role, str):
        raise _wrong_fields(f"turn {number}: `role` is missing or not text")
    return role, content


def _part(raw: object, number: int) -> str:
    """Return the text of one content part; the gateway joins several with line breaks too."""
    text = raw.get("text") if isinstance(raw, Mapping) and raw.get("type") == "text" else None
    if not isinstance(text, str):
        kind = raw.get("type") if isinstance(raw, Mapping) else type(raw).__name__
        raise _wrong_fields(f"turn {number} holds a part that is not text: {kind!r:.30}")
    return text


def _from_sharegpt(raw: object) -> dict[str, object]:
    """Translate a record of a ShareGPT variant, whose fields have other names and places."""
    record = {"conversations": raw} if isinstance(raw, list) else raw
    found = record if isinstance(record, Mapping) else {}
    turns = next((found[name] for name in LISTS if isinstance(found.get(name), list)), None)
    if turns is None:
        raise _wrong_fields(f"there is no list of turns{looks_like(raw, not_as='sharegpt')}")
    said = list(_turns(turns))
    system = found.get("system")
    if isinstance(system, str) and system.strip():
        if said and said[0][0] == "system":
            raise _wrong_fields("a system message stands in `system`, and another one in turn 1")
        said.insert(0, ("system", system))
    return _record(found, said)


def _turns(turns: list[object]) -> Iterator[_Message]:
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, Mapping):
            raise _wrong_fields(f"turn {number} is not an object")
        who = next((turn[name] for name in SPEAKER_FIELDS if name in turn), None)
        what = next((turn[name] for name in _TEXT_FIELDS if name in turn), None)
        if not isinstance(who, str):
            raise _wrong_fields(f"turn {number} does not say who speaks")
        if not isinstance(what, str):
            raise _wrong_fields(f"turn {number} has no text")
        yield who.lower(), what


def _record(raw: object, said: list[_Message]) -> dict[str, object]:
    # An unknown speaker is kept, so that `parse_record` reports it.
    turns = [{"from": SPEAKERS.get(who, who), "value": what} for who, what in said]
    return {"id": id_of(raw) or made_id(turns), "conversations": turns}


def _wrong_fields(reason: str) -> BadForm:
    return BadForm(RecordFault.WRONG_FIELDS, reason)


_TO_FASTCHAT: Mapping[ReadAs, Callable[[object], dict[str, object]]] = {
    "openai": _from_openai,
    "sharegpt": _from_sharegpt,
}
