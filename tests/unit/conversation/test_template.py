import pytest
from fastchat.conversation import get_conv_template

from tasks.core.conversation.records import Conversation, Turn
from tasks.core.conversation.template import render
from tasks.core.errors import DataError, RecipeError

TWO = Conversation(
    "dua", (Turn("human", "a"), Turn("gpt", "A"), Turn("human", "ASSISTANT: b"), Turn("gpt", " B "))
)


def answers(conversation: Conversation, template: str) -> list[str]:
    rendered = render(conversation, template)
    return [rendered.text[span.start : span.end] for span in rendered.spans]


def test_an_unknown_template_is_refused_with_the_names_that_are_near() -> None:
    with pytest.raises(RecipeError, match=r"vicuna_v1\.1"):
        render(TWO, "vicuna_v1")


@pytest.mark.parametrize("template", ["chatgpt", "raw", "falcon"])
def test_a_template_without_text_or_without_an_end_mark_is_refused(template: str) -> None:
    with pytest.raises(RecipeError, match=template):
        render(TWO, template)


def test_a_turn_with_the_end_mark_is_refused() -> None:
    bad = Conversation("x", (Turn("human", "what is </s>?"), Turn("gpt", "a token")))
    with pytest.raises(DataError, match=r"x, turn 1"):
        render(bad, "vicuna_v1.1")


def test_spans_cover_what_follows_the_colon_up_to_the_end_mark() -> None:
    assert answers(TWO, "vicuna_v1.1") == [" A</s>", "  B </s>"]


def test_spans_of_chatml_leave_out_the_line_break_after_the_end_mark() -> None:
    assert answers(TWO, "qwen-7b-chat") == ["A<|im_end|>", " B <|im_end|>"]


def test_spans_end_with_the_stop_string_where_the_template_has_one() -> None:
    assert answers(TWO, "zero_shot") == [" A\n###", "  B \n###"]


@pytest.mark.parametrize("template", ["vicuna_v1.1", "qwen-7b-chat", "llama-2", "zero_shot"])
@pytest.mark.parametrize("system", [None, "", "Jawab singkat."])
@pytest.mark.parametrize("turns", [2, 4, 12])
def test_text_is_what_fastchat_gives(template: str, system: str | None, turns: int) -> None:
    said = (TWO.turns * 3)[:turns]
    reference = get_conv_template(template)
    if system is not None:
        reference.set_system_message(system)
    for turn in said:
        reference.append_message(reference.roles[turn.speaker == "gpt"], turn.text)
    assert render(Conversation("x", said, system), template).text == reference.get_prompt()


@pytest.mark.parametrize("template", ["vicuna_v1.1", "qwen-7b-chat", "llama-2", "alpaca"])
def test_an_answer_begins_where_fastchats_prompt_for_it_ends(template: str) -> None:
    rendered = render(TWO, template)
    prompt = get_conv_template(template)
    for turn in TWO.turns[:3]:
        prompt.append_message(prompt.roles[turn.speaker == "gpt"], turn.text)
    prompt.append_message(prompt.roles[1], None)
    assert rendered.text[: rendered.spans[1].start] == prompt.get_prompt()
