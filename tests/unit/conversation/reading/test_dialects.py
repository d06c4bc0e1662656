"""Records of other formats: what is read of them, and what would not be learned as it was meant."""

from typing import Any

import pytest

from tasks.core.conversation.formats import ReadAs
from tasks.core.conversation.reading.dialects import _TO_FASTCHAT, parse_as
from tasks.core.conversation.records import BadForm, BadRecord, Conversation, RecordFault

USER = {"role": "user", "content": "Halo"}
ASSISTANT = {"role": "assistant", "content": "Apa kabar?"}


def read(raw: object, read_as: ReadAs) -> Conversation:
    found = parse_as(raw, 1, read_as)
    assert isinstance(found, Conversation), found
    return found


def fault(raw: object, read_as: ReadAs) -> BadRecord:
    found = parse_as(raw, 7, read_as)
    assert isinstance(found, BadRecord), found
    assert found.position == 7
    return found


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({**ASSISTANT, "weight": 0}, "turn 2: `weight` is 0"),
        ({**ASSISTANT, "tool_calls": [{"id": "a"}]}, "turn 2 calls a tool"),
        ({**ASSISTANT, "function_call": {"name": "a"}}, "turn 2 calls a tool"),
        ({"role": "assistant", "content": None}, "turn 2: `content` is missing or not text"),
        ({"role": "assistant", "refusal": "Tidak."}, "turn 2: `content` is missing or not text"),
        ({"role": "assistant", "content": [{"type": "image_url"}]}, "not text: 'image_url'"),
        ({"role": "assistant", "content": ["Halo"]}, "not text: 'str'"),
        ("Halo", "turn 2 is not an object"),
    ],
)
def test_what_would_not_be_learned_as_it_was_meant_is_a_bad_record(
    message: object, reason: str
) -> None:
    bad = fault({"messages": [USER, message]}, "openai")
    assert bad.fault is RecordFault.WRONG_FIELDS
    assert reason in bad.reason


@pytest.mark.parametrize("role", ["tool", "function", None])
def test_an_unknown_role_is_named(role: object) -> None:
    bad = fault({"messages": [USER, {"role": role, "content": "4"}, ASSISTANT]}, "openai")
    assert bad.fault in (RecordFault.UNKNOWN_SPEAKER, RecordFault.WRONG_FIELDS)
    assert "turn 2" in bad.reason


@pytest.mark.parametrize("raw", [None, 3, "Halo", [], {}, {"messages": {}}, {"conversations": []}])
@pytest.mark.parametrize("read_as", ["openai", "sharegpt"])
def test_no_json_value_is_more_than_a_bad_record(raw: object, read_as: ReadAs) -> None:
    fault(raw, read_as)


def test_a_record_of_another_format_is_named_as_that() -> None:
    own: dict[str, Any] = {"conversations": [{"from": "human", "value": "Halo"}], "id": "a"}
    assert "it looks like FastChat's format" in fault(own, "openai").reason
    assert "it looks like OpenAI's format" in fault({"messages": [USER]}, "fastchat").reason


@pytest.mark.parametrize("role", ["system", "developer"])
def test_openais_system_message_is_the_conversations(role: str) -> None:
    found = read({"messages": [{"role": role, "content": "Singkat."}, USER, ASSISTANT]}, "openai")
    assert found.system == "Singkat."
    assert [turn.text for turn in found.turns] == ["Halo", "Apa kabar?"]


def test_parts_of_a_message_are_lines() -> None:
    parts = [{"type": "text", "text": "Halo"}, {"type": "text", "text": "Bu"}]
    found = read({"messages": [{"role": "user", "content": parts}, ASSISTANT]}, "openai")
    assert found.turns[0].text == "Halo\nBu"


def test_a_weight_of_one_is_what_is_learned_anyway() -> None:
    assert read({"messages": [USER, {**ASSISTANT, "weight": 1}]}, "openai").turns


def test_two_system_messages_of_which_one_would_be_lost_are_a_bad_record() -> None:
    turns = [{"from": "system", "value": "Singkat."}, {"from": "human", "value": "Halo"}]
    bad = fault({"system": "Sopan.", "conversations": turns}, "sharegpt")
    assert "a system message stands in `system`, and another one in turn 1" in bad.reason


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"value": "Halo"}, "turn 1 does not say who speaks"),
        ({"from": "human"}, "turn 1 has no text"),
        ({"from": "human", "value": None, "text": "x"}, "turn 1 has no text"),
        (7, "turn 1 is not an object"),
    ],
)
def test_a_turn_without_speaker_or_text_is_named(turn: object, reason: str) -> None:
    assert reason in fault({"conversations": [turn]}, "sharegpt").reason


def test_an_id_that_is_made_follows_from_the_words_alone() -> None:
    one, again = (read({"messages": [USER, ASSISTANT], "n": n}, "openai").id for n in (1, 2))
    other = read({"messages": [USER, {**ASSISTANT, "content": "Baik."}]}, "openai").id
    assert one == again != other


def test_an_id_of_the_record_is_kept() -> None:
    assert read({"id": 12, "messages": [USER, ASSISTANT]}, "openai").id == "12"


def test_speakers_are_known_however_they_are_written() -> None:
    turns = [{"from": "Human", "value": "Halo"}, {"from": "ChatGPT", "value": "Baik."}]
    found = read({"items": turns}, "sharegpt")
    assert [turn.speaker for turn in found.turns] == ["human", "gpt"]


def test_a_role_that_is_nested_deeper_than_can_be_written_is_a_bad_record() -> None:
    role: object = "user"
    for _ in range(100_000):
        role = [role]
    bad = fault({"messages": [{"role": role, "content": "4"}, ASSISTANT]}, "openai")
    assert "turn 1: `role` is missing or not text" in bad.reason


@pytest.mark.parametrize("read_as", _TO_FASTCHAT)
@pytest.mark.parametrize("raw", [None, 1, "text", {}])
def test_a_translation_refuses_what_has_none_of_its_fields(read_as: ReadAs, raw: object) -> None:
    with pytest.raises(BadForm) as refused:
        _TO_FASTCHAT[read_as](raw)
    assert refused.value.fault is RecordFault.WRONG_FIELDS
