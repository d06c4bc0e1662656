"""The next step is offered by an event that follows an answer's, never by the answer itself.

gradio ignores a click that would begin an event which has not ended on both sides yet.
"""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio")

import gradio as gr

from tasks.core.serving.page import words
from tasks.core.serving.page.article_tab import ArticleTab
from tasks.core.serving.page.chat_tab import ChatTab
from tasks.core.serving.page.gateway import Model
from tests.unit.serving.gateway.world import MODEL_NAME

PERSON = SimpleNamespace(session_hash="me")
CONVERSATION = [
    {"role": role, "content": [{"type": "text", "text": "Halo."}]} for role in ("user", "assistant")
]


@pytest.fixture
def model(scripted):
    scripted.answers("baik sekali")
    return Model(f"{scripted.url}/v1", MODEL_NAME)


@pytest.fixture
def blocks():
    with gr.Blocks() as blocks:
        yield blocks


def offered(update: dict[Any, Any]) -> set[str]:
    """Return what stands on the buttons that can be pressed after an update."""
    return {
        button.value
        for button, new in update.items()
        if isinstance(button, gr.Button) and new.visible and new.interactive is not False
    }


def updates(answer: Any) -> list[dict[Any, Any]]:
    async def run() -> list[dict[Any, Any]]:
        return [update async for update in answer]

    return asyncio.run(run())


def functions(blocks: Any, name: str) -> dict[int, Any]:
    """Return the events of this name by their numbers."""
    return {number: each for number, each in blocks.fns.items() if each.fn.__name__ == name}


def test_a_question_is_offered_when_the_answer_has_ended(blocks, model, tmp_path):
    chat = ChatTab(model, [], tmp_path / "judged.jsonl")
    first, *others = map(offered, updates(chat.ask("Apa kabar?", [], 0, 0.7, 32, PERSON)))
    assert first == {words.STOP}
    assert others
    assert not any(others)
    assert offered(chat.ended(CONVERSATION)) == {words.SEND, words.NEW_CHAT}
    asked, ended = functions(blocks, "ask"), functions(blocks, "ended")
    assert len(asked) == 2
    assert [each.trigger_after for each in ended.values()] == list(asked)


def test_a_judgement_is_offered_where_there_is_an_answer(blocks, model, tmp_path):
    chat = ChatTab(model, [], tmp_path / "judged.jsonl")
    shown = [
        {part.elem_id for part in chat.ended(messages) if isinstance(part, gr.Column)}
        for messages in ([], CONVERSATION)
    ]
    assert shown == [set(), {"judging"}]


def test_a_step_of_the_article_is_offered_when_the_one_before_has_ended(blocks, model):
    tab = ArticleTab(model, gr.Chatbot())
    making, ended = functions(blocks, "make"), functions(blocks, "ended")
    assert len(making) == 3
    assert [each.trigger_after for each in ended.values()] == list(making)
    summary = next(iter(making.values())).fn
    first, *others = map(offered, updates(summary("Pengguna: Halo?", 0.7, 32, PERSON)))
    assert first == {words.STOP}
    assert others
    assert not any(others)
    assert offered(tab.ended()) == {words.MAKE_SUMMARY, words.MAKE_TITLES, words.MAKE_ARTICLE}
