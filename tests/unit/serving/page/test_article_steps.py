"""The steps of an article: before a real gateway and model, and before answers of a test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tasks.core.serving.page import words
from tasks.core.serving.page.article_steps import ArticleStep, summarized, titled, written
from tasks.core.serving.page.gateway import ServedModel, Trouble, Wish
from tests.unit.serving.gateway.world import CONTEXT, MODEL_NAME, until

WISH = Wish(0.7, 12)
TITLES = '{"article": ["Satu", "Dua", "Tiga"]}'


@asynccontextmanager
async def model_at(url: str) -> AsyncIterator[ServedModel]:
    model = ServedModel(f"{url}/v1", MODEL_NAME)
    try:
        yield model
    finally:
        await model.close()


def steps_of(url: str, step, *arguments, wish: Wish = WISH) -> list[ArticleStep]:
    async def all_of_them() -> list[ArticleStep]:
        async with model_at(url) as model:
            return [each async for each in step(model, *arguments, wish)]

    return asyncio.run(all_of_them())


def turns(*contents: str) -> list[dict[str, str]]:
    return [
        {"role": ("user", "assistant")[place % 2], "content": content}
        for place, content in enumerate(contents)
    ]


def test_titles_that_are_as_asked_are_asked_for_once(scripted):
    scripted.answers(TITLES)
    scripted.state()
    last = steps_of(scripted.url, titled, "Ringkasan.")[-1]
    assert last.titles == ("Satu", "Dua", "Tiga")
    assert last.told == ""
    assert len(scripted.state()["asked"]) == 1


def test_titles_that_are_not_json_are_asked_for_once_more_with_the_fault_named(scripted):
    scripted.answers('{"article": ["Satu", "Dua"]}', TITLES)
    scripted.state()
    assert steps_of(scripted.url, titled, "Ringkasan.")[-1].titles == ("Satu", "Dua", "Tiga")
    first, second = scripted.state()["asked"]
    assert second["messages"][0] == first["messages"][0]
    assert second["messages"][1]["content"].strip() == '{"article": ["Satu", "Dua"]}'
    assert "ada 2 judul, bukan 3" in second["messages"][2]["content"]


def test_titles_that_are_never_as_asked_are_read_with_indulgence(scripted):
    scripted.answers("1. Satu\n2. Dua", "Maaf, tidak bisa.")
    last = steps_of(scripted.url, titled, "Ringkasan.")[-1]
    assert last.titles == ("Satu", "Dua")
    assert last.told == words.FEWER_TITLES.format(found=2)


def test_an_answer_without_titles_is_told_and_shown(scripted):
    scripted.answers("Maaf, tidak bisa.")
    scripted.state()
    last = steps_of(scripted.url, titled, "Ringkasan.")[-1]
    assert last == ArticleStep("Maaf, tidak bisa. ", words.NO_TITLES)
    assert len(scripted.state()["asked"]) == 2


def test_a_real_model_that_speaks_nonsense_ends_in_words(gateway):
    last = steps_of(gateway.url, titled, "Ringkasan.", wish=Wish(0, 12))[-1]
    assert last.titles or last.told == words.NO_TITLES


def test_the_summary_of_a_conversation_that_is_too_long_is_made_of_its_newest_turns(
    gateway, engine, model_text
):
    engine.state()
    conversation = turns("satu " * 300, "dua " * 100, "tiga " * 20, "empat")
    told = {step.told for step in steps_of(gateway.url, summarized, conversation) if step.text}
    assert all(each.startswith(words.left_out(2)) for each in told)
    asked = model_text(engine.state()["asked"][-1]["prompt"])
    assert "satu satu" not in asked
    assert "tiga tiga" in asked


def test_a_single_turn_that_is_too_long_is_refused_in_words(gateway):
    with pytest.raises(Trouble, match="terlalu panjang"):
        steps_of(gateway.url, summarized, turns("a" * CONTEXT))


def test_the_article_grows_and_is_told_to_be_cut(gateway):
    steps = steps_of(gateway.url, written, "Judul", wish=Wish(0, 12))
    assert steps[-1].text.startswith(steps[1].text)
    assert steps[-1].told == words.CUT


def test_whoever_stops_reading_ends_the_generation(gateway, engine):
    engine.misbehave(None, pace_s=1)  # whatever nobody ends goes on for a quarter of an hour

    async def a_little() -> None:
        async with model_at(gateway.url) as model:
            steps = written(model, "Judul", Wish(0, 1000))
            async for step in steps:
                if step.text:
                    break
            assert engine.state()["running"] == 1
            await steps.aclose()
            await asyncio.to_thread(until, lambda: engine.state()["running"] == 0)

    asyncio.run(a_little())
    engine.misbehave(None)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"status": 429, "retry_after": "7"}, "sibuk. Silakan coba lagi dalam 7 detik"),
        ({"status": 503, "retry_after": "30"}, "sibuk. Silakan coba lagi dalam 30 detik"),
        ({"status": 503}, "sibuk. Silakan coba lagi sebentar lagi"),
        ({"status": 401}, "belum diizinkan"),
        ({"status": 404, "code": "model_not_found"}, "tidak tersedia"),
        ({"status": 500}, "tidak dapat menjawab"),
        ({"breaks": True}, "terputus"),
    ],
)
def test_every_failure_is_a_sentence_in_indonesian(scripted, answer, sentence):
    scripted.answers({"text": "Internal Server Error", **answer})
    with pytest.raises(Trouble, match=sentence) as trouble:
        steps_of(scripted.url, written, "Judul")
    assert "Error" not in str(trouble.value)


def test_a_gateway_that_is_down_is_a_sentence_too():
    from tests.unit.serving.gateway.world import free_port

    with pytest.raises(Trouble, match="tidak dapat dihubungi"):
        steps_of(f"http://127.0.0.1:{free_port()}", written, "Judul")


def test_the_key_of_the_environment_goes_along(scripted, monkeypatch):
    monkeypatch.setenv("KAWAN_USAHA_API_KEY", "rahasia-dapur-12345")
    scripted.answers("baik")
    scripted.state()
    steps_of(scripted.url, written, "Judul")
    (headers,) = scripted.state()["headers"]
    assert headers["authorization"] == "Bearer rahasia-dapur-12345"
