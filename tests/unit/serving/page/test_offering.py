"""The next step is offered by an event that follows an answer's, never by the answer itself.

gradio ignores a click that would begin an event which has not ended on both sides yet.
"""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio")

import gradio as gr

from tasks.core.serving.page import words
from tasks.core.serving.page.article_tab import ArticleTab
from tasks.core.serving.page.chat_tab import ChatTab
from tasks.core.serving.page.gateway import ServedModel
from tests.unit.serving.gateway.world import MODEL_NAME
from tests.unit.serving.page.world import Scripted

PERSON = SimpleNamespace(session_hash="me")
CONVERSATION = [
    {"role": role, "content": [{"type": "text", "text": "Halo."}]} for role in ("user", "assistant")
]


Updates = Callable[[Any], list[dict[Any, Any]]]


@pytest.fixture(scope="module")
def updates() -> Iterator[Updates]:
    """Return what reads an answer to its end, in the loop that the model's client belongs to."""

    async def read(answer: Any) -> list[dict[Any, Any]]:
        return [update async for update in answer]

    with asyncio.Runner() as loop:
        yield lambda answer: loop.run(read(answer))


@pytest.fixture(scope="module")
def model(scripted: Scripted) -> ServedModel:
    scripted.answers("baik sekali")
    return ServedModel(f"{scripted.url}/v1", MODEL_NAME)


@pytest.fixture(scope="module")
def blocks() -> gr.Blocks:
    """Those of `chat`: gradio takes 0.3 s of a core to make some."""
    return gr.Blocks()


@pytest.fixture(scope="module")
def chat(blocks: gr.Blocks, model: ServedModel) -> ChatTab:
    """A tab that keeps nothing between answers."""
    with blocks:
        chat = ChatTab(model, [], kept_days=90)
        chat.connect(blocks)
    return chat


def offered(update: dict[Any, Any]) -> set[str]:
    """Return what stands on the buttons that can be pressed after an update."""
    return {
        button.value
        for button, new in update.items()
        if isinstance(button, gr.Button) and new.visible and new.interactive is not False
    }


def functions(blocks: Any, name: str) -> dict[int, Any]:
    """Return the events of this name by their numbers."""
    return {number: each for number, each in blocks.fns.items() if each.fn.__name__ == name}


def test_a_question_is_offered_when_the_answer_has_ended(blocks, chat, updates):
    first, *others = map(
        offered, updates(chat.ask("Apa kabar?", [], 0, None, False, 0.7, 32, PERSON))
    )
    assert first == {words.STOP}
    assert others
    assert not any(others)
    assert offered(chat.ended(None)) == {words.SEND, words.NEW_CHAT}
    asked, ended = functions(blocks, "ask"), functions(blocks, "ended")
    assert len(asked) == 2
    assert [each.trigger_after for each in ended.values()] == list(asked)


def test_a_judgement_is_offered_where_an_answer_is_kept(chat):
    shown = [
        {part.elem_id for part in chat.ended(answer_id) if isinstance(part, gr.Column)}
        for answer_id in (None, "chatcmpl-1")
    ]
    assert shown == [set(), {"judging"}]


MINE = {"id": "6c6cb5786fd48916cf41", "agrees": True}


@pytest.mark.parametrize(
    ("mine", "ticked"),
    [
        (None, True),
        ("6c6cb5786fd48916cf41", True),
        ({"id": "", "agrees": True}, True),
        ({"id": "siti", "agrees": True}, True),
        ({**MINE, "agrees": "yes"}, True),
        ({**MINE, "agrees": False}, True),
        (MINE, False),
        (MINE, "yes"),
    ],
)
def test_the_gateway_is_asked_to_keep_nothing_where_consent_is_in_doubt(
    chat, updates, scripted, mine, ticked
):
    scripted.state()
    last = updates(chat.ask("Apa kabar?", [], 0, mine, ticked, 0.7, 32, PERSON))[-1]
    (body,) = scripted.state()["asked"]
    assert not {"store", "user"} & body.keys()
    assert "1" not in last.values()


def test_with_consent_the_gateway_is_told_who_agrees(chat, updates, scripted):
    scripted.state()
    last = updates(chat.ask("Apa kabar?", [], 0, MINE, True, 0.7, 32, PERSON))[-1]
    (body,) = scripted.state()["asked"]
    assert (body["store"], body["user"]) == (True, MINE["id"])
    assert "1" in last.values()  # the id of the answer, which can now be judged


def test_a_step_of_the_article_is_offered_when_the_one_before_has_ended(model, updates):
    with gr.Blocks() as blocks:
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
