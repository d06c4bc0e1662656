"""A record of another format, as FastChat's would say it: the one place that knows the differences.

What a record says is taken over as it is: only fields and speakers get other names. Whether it is a
conversation is then for `records` to judge. The invariant: nothing that would be learned otherwise
than its author meant is read; such a record is named instead.
"""

from collections.abc import Callable, Iterator, Mapping

from tasks.core.conversation.formats import LISTS, SPEAKER_FIELDS, SPEAKERS, ReadAs, looks_like
from tasks.core.conversation.preferences import parse_preference
from tasks.core.conversation.records import (
    BadForm,
    BadRecord,
    Conversation,
    Fault,
    id_of,
    made_id,
    parse_record,
)

_TEXT_FIELDS = ("value", "content", "text")
_Said = tuple[str, str]
"""Who speaks, in the record's own word, and what."""


def read_record(
    raw: object, position: int, read_as: ReadAs, *, merge_neighbours: bool = False
) -> Conversation | BadRecord:
    """Return the conversation that a decoded JSON value describes, or what is wrong with it.

    `merge_neighbours` as `parse_record` has it. A record without an id, which only FastChat's
    format must have, gets one that follows from its words.
    """
    if read_as == "preferences":
        return parse_preference(raw, position, merge_neighbours=merge_neighbours)
    if read_as != "fastchat":
        try:
            raw = _AS_FASTCHAT[read_as](raw)
        except BadForm as bad:
            return BadRecord(position, id_of(raw), bad.fault, str(bad))
    return parse_record(raw, position, merge_neighbours=merge_neighbours)


def _of_openai(raw: object) -> dict[str, object]:
    """Return a record of OpenAI's `messages`.

    Source: https://platform.openai.com/docs/guides/supervised-fine-tuning, "Formatting your data".
    """
    messages = raw.get("messages") if isinstance(raw, Mapping) else None
    if not isinstance(messages, list):
        raise _not_as_said(f"`messages` is missing or not a list{looks_like(raw, not_as='openai')}")
    said = [_message(each, number) for number, each in enumerate(messages, start=1)]
    return _record(raw, said)


def _message(raw: object, number: int) -> _Said:
    if not isinstance(raw, Mapping):
        raise _not_as_said(f"turn {number} is not an object")
    if raw.get("weight") not in (None, 1):
        raise _not_as_said(
            f"turn {number}: `weight` is {raw['weight']!r:.20}, and every answer of a conversation "
            "is learned here"
        )
    if raw.get("tool_calls") or raw.get("function_call"):
        raise _not_as_said(f"turn {number} calls a tool, which no template here can write")
    content = raw.get("content")
    if isinstance(content, list):
        content = "\n".join(_part(each, number) for each in content)
    if not isinstance(content, str):
        raise _not_as_said(f"turn {number}: `content` is missing or not text")
    role = raw.get("role")
    if not isinstance(role, str):
        raise _not_as_said(f"turn {number}: `role` is missing or not text")
    return role, content


def _part(raw: object, number: int) -> str:
    """Return the text of a part of a message; several are lines, as the gateway has them."""
    text = raw.get("text") if isinstance(raw, Mapping) and raw.get("type") == "text" else None
    if not isinstance(text, str):
        kind = raw.get("type") if isinstance(raw, Mapping) else type(raw).__name__
        raise _not_as_said(f"turn {number} holds a part that is not text: {kind!r:.30}")
    return text


def _of_sharegpt(raw: object) -> dict[str, object]:
    """Return a record of one of ShareGPT's variants: names and places of the fields differ."""
    record = {"conversations": raw} if isinstance(raw, list) else raw
    found = record if isinstance(record, Mapping) else {}
    turns = next((found[name] for name in LISTS if isinstance(found.get(name), list)), None)
    if turns is None:
        raise _not_as_said(f"there is no list of turns{looks_like(raw, not_as='sharegpt')}")
    said = list(_said(turns))
    system = found.get("system")
    if isinstance(system, str) and system.strip():
        if said and said[0][0] == "system":
            raise _not_as_said("a system message stands in `system`, and another one in turn 1")
        said.insert(0, ("system", system))
    return _record(found, said)


def _said(turns: list[object]) -> Iterator[_Said]:
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, Mapping):
            raise _not_as_said(f"turn {number} is not an object")
        who = next((turn[name] for name in SPEAKER_FIELDS if name in turn), None)
        what = next((turn[name] for name in _TEXT_FIELDS if name in turn), None)
        if not isinstance(who, str):
            raise _not_as_said(f"turn {number} does not say who speaks")
        if not isinstance(what, str):
            raise _not_as_said(f"turn {number} has no text")
        yield who.lower(), what


def _record(raw: object, said: list[_Said]) -> dict[str, object]:
    # A speaker that nobody knows stays, to be named as such.
    turns = [{"from": SPEAKERS.get(who, who), "value": what} for who, what in said]
    return {"id": id_of(raw) or made_id(turns), "conversations": turns}


def _not_as_said(reason: str) -> BadForm:
    return BadForm(Fault.WRONG_FIELDS, reason)


_AS_FASTCHAT: Mapping[ReadAs, Callable[[object], dict[str, object]]] = {
    "openai": _of_openai,
    "sharegpt": _of_sharegpt,
}
