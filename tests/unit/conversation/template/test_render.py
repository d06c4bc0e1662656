import sys
from types import FrameType

import pytest
from fastchat.conversation import conv_templates, get_conv_template

from tasks.core.conversation.records import Conversation, Turn
from tasks.core.conversation.template.render import end_mark, get_template, render_conversation
from tasks.core.errors import DataError, RecipeError

TWO = Conversation(
    "dua", (Turn("human", "a"), Turn("gpt", "A"), Turn("human", "ASSISTANT: b"), Turn("gpt", " B "))
)


def answers(conversation: Conversation, template: str) -> list[str]:
    rendered = render_conversation(conversation, template)
    return [rendered.text[span.start : span.end] for span in rendered.spans]


def test_an_unknown_template_is_refused_with_the_names_that_are_near() -> None:
    with pytest.raises(RecipeError, match=r"vicuna_v1\.1"):
        render_conversation(TWO, "vicuna_v1")


@pytest.mark.parametrize("template", ["chatgpt", "raw", "falcon"])
def test_a_template_without_text_or_without_an_end_mark_is_refused(template: str) -> None:
    with pytest.raises(RecipeError, match=template):
        render_conversation(TWO, template)


def test_a_turn_with_the_end_mark_is_refused() -> None:
    bad = Conversation("x", (Turn("human", "what is </s>?"), Turn("gpt", "a token")))
    with pytest.raises(DataError, match=r"x, turn 1"):
        render_conversation(bad, "vicuna_v1.1")


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
    assert (
        render_conversation(Conversation("x", said, system), template).text
        == reference.get_prompt()
    )


@pytest.mark.parametrize("template", ["vicuna_v1.1", "qwen-7b-chat", "llama-2", "alpaca"])
def test_an_answer_begins_where_fastchats_prompt_for_it_ends(template: str) -> None:
    rendered = render_conversation(TWO, template)
    prompt = get_conv_template(template)
    for turn in TWO.turns[:3]:
        prompt.append_message(prompt.roles[turn.speaker == "gpt"], turn.text)
    prompt.append_message(prompt.roles[1], None)
    assert rendered.text[: rendered.spans[1].start] == prompt.get_prompt()


def span_by_span(conversation: Conversation, template: str) -> list[tuple[int, int]]:
    """Return what `render` does by asking FastChat for every answer, with the turns before it."""
    said, spans = get_conv_template(template), []
    mark = end_mark(get_template(template))
    for turn in conversation.turns:
        if turn.speaker == "gpt":
            prompt, whole = said.copy(), said.copy()
            prompt.append_message(prompt.roles[1], None)
            whole.append_message(whole.roles[1], turn.text)
            at = whole.get_prompt().rindex(turn.text) + len(turn.text)
            spans.append((len(prompt.get_prompt()), at + len(mark)))
        said.append_message(said.roles[turn.speaker == "gpt"], turn.text)
    return spans


@pytest.mark.parametrize("turns", [2, 3, 4, 23])
def test_every_template_of_fastchat_is_rendered_as_it_prompts_answer_by_answer(turns: int) -> None:
    said = tuple(Turn(("human", "gpt")[i % 2], f"kata ke-{i} \ue000 é") for i in range(turns))  # type: ignore[arg-type]
    conversation, rendered = Conversation("x", said), 0
    for template in conv_templates:
        try:
            made = render_conversation(conversation, template)
        except RecipeError:
            continue
        rendered += 1
        spans = [(span.start, span.end) for span in made.spans]
        assert spans == span_by_span(conversation, template), template
    assert rendered > 40


def test_the_time_for_a_conversation_grows_with_its_turns_not_with_their_square() -> None:
    asked = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal asked
        asked += event == "call" and frame.f_code.co_name == "get_prompt"

    render_conversation(TWO, "vicuna_v1.1")
    sys.setprofile(count)
    try:
        render_conversation(Conversation("x", TWO.turns * 100), "vicuna_v1.1")
    finally:
        sys.setprofile(None)
    assert asked == 2
