"""The model is asked with what FastChat's own server would ask it, and what training showed it."""

import asyncio
import sys

import pytest
from fastchat.conversation import get_conv_template
from fastchat.serve import openai_api_server
from fastchat.serve.base_model_worker import BaseModelWorker
from transformers import AutoTokenizer

from tasks.core.conversation.records import Conversation
from tasks.core.conversation.records import Turn as Spoken
from tasks.core.conversation.template.render import render_conversation
from tasks.core.errors import NotAModel, RecipeError
from tasks.core.serving.gateway.api_error import ApiError
from tasks.core.serving.gateway.prompts import Prompts, PromptTurn

TEMPLATES = (
    "vicuna_v1.1",
    "zero_shot",
    "one_shot",
    "llama-2",
    "mistral-7b-openorca",
    "alpaca",
    "qwen-7b-chat",
)
CONVERSATIONS = (
    [PromptTurn("user", "apa kabar")],
    [
        PromptTurn("system", "Jawab singkat."),
        PromptTurn("user", "apa"),
        PromptTurn("assistant", "ya"),
        PromptTurn("user", ""),
    ],
    [
        PromptTurn("user", "a"),
        PromptTurn("user", "b"),
        PromptTurn("assistant", "c"),
        PromptTurn("user", "é \U0001f600 {x}"),
    ],
)


@pytest.fixture(scope="module")
def tokenizer(model):
    return AutoTokenizer.from_pretrained(model)


def fastchats_prompt(template: str, turns: list[PromptTurn], monkeypatch) -> tuple[str, list, list]:
    """What FastChat's API server makes of the messages: its own function, given the template."""
    conv = get_conv_template(template)
    told = {
        name: getattr(conv, name)
        for name in ("name", "system_template", "system_message", "roles", "offset", "sep_style")
    } | {
        name: getattr(conv, name)
        for name in ("sep", "sep2", "stop_str", "stop_token_ids", "messages")
    }

    async def get_conv(_model: str, _worker: str):
        return told

    monkeypatch.setattr(openai_api_server, "get_conv", get_conv)
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    asked = openai_api_server.get_gen_params(
        "m",
        "w",
        messages,
        temperature=1,
        top_p=1,
        top_k=-1,
        presence_penalty=0,
        frequency_penalty=0,
        max_tokens=1,
        echo=False,
        stop=None,
    )
    made = asyncio.run(asked)
    return made["prompt"], made["stop"], made["stop_token_ids"]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("turns", CONVERSATIONS, ids=["short", "system", "odd"])
def test_the_ids_are_those_of_fastchats_server_and_worker(
    model, tokenizer, template, turns, monkeypatch
):
    text, stop, stop_token_ids = fastchats_prompt(template, turns, monkeypatch)
    prompts = Prompts(model, template, 2048)
    try:
        found = prompts.text(turns)
    except ApiError:
        assert turns[0].role == "system"
        assert turns[0].text not in text  # FastChat drops it without a word
        return
    assert found == text
    assert asyncio.run(prompts.ids(found)) == tokenizer(text).input_ids
    assert list(prompts.stop) == stop
    assert list(prompts.stop_token_ids) == (stop_token_ids or [])


def test_a_count_is_fastchats_workers(model, tokenizer):
    worker = BaseModelWorker.__new__(BaseModelWorker)
    worker.tokenizer = tokenizer
    text = "modal usaha\n" * 500
    ids = asyncio.run(Prompts(model, "vicuna_v1.1", 2048).ids(text))
    assert worker.count_token({"prompt": text})["count"] == len(ids)


def test_vicunas_prompt_is_the_beginning_of_what_training_showed(model, tokenizer):
    turns = (
        Spoken("human", "apa kabar"),
        Spoken("gpt", "baik"),
        Spoken("human", "lalu"),
        Spoken("gpt", "ya"),
    )
    shown = render_conversation(Conversation(id="x", turns=turns, system=None), "vicuna_v1.1")
    asked = [
        PromptTurn("user", "apa kabar"),
        PromptTurn("assistant", "baik"),
        PromptTurn("user", "lalu"),
    ]
    prompt = Prompts(model, "vicuna_v1.1", 2048).text(asked)
    assert prompt == shown.text[: shown.spans[-1].start]
    ids = asyncio.run(Prompts(model, "vicuna_v1.1", 2048).ids(prompt))
    assert tokenizer(shown.text).input_ids[: len(ids)] == ids


def test_a_long_text_does_not_hold_up_the_loop(model):
    prompts = Prompts(model, "vicuna_v1.1", 2048)

    async def beats() -> int:
        counting = asyncio.create_task(prompts.ids("modal usaha laba " * 20_000))
        count = 0
        while not counting.done():
            await asyncio.sleep(0.001)
            count += 1
        return count

    assert asyncio.run(beats()) > 10


def test_room_is_what_is_left_and_never_less_than_a_token(model):
    prompts = Prompts(model, "vicuna_v1.1", 100)
    assert prompts.answer_tokens(40, 1000) == 60
    assert prompts.answer_tokens(99, 1000) == 1
    assert prompts.answer_tokens(40, 5) == 5
    for full in (100, 101):
        with pytest.raises(ApiError) as overflow:
            prompts.answer_tokens(full, 1)
        assert overflow.value.code == 40303


def test_several_system_messages_all_reach_the_head(model):
    turns = [
        PromptTurn("system", "Satu."),
        PromptTurn("user", "a"),
        PromptTurn("system", "Dua."),
        PromptTurn("user", "b"),
    ]
    assert Prompts(model, "vicuna_v1.1", 2048).text(turns).startswith("Satu.\nDua. USER: a")


def test_a_template_or_a_model_that_is_not_there_is_an_error(model, tmp_path):
    with pytest.raises(RecipeError):
        Prompts(model, "vicuna_v9", 2048)
    with pytest.raises(NotAModel):
        Prompts(tmp_path, "vicuna_v1.1", 2048)


def test_fastchats_templates_do_not_import_torch():
    """If this fails, the gateway's `None` in sys.modules hides a module that it needs."""
    import subprocess

    code = "import sys; import fastchat.conversation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
