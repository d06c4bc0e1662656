"""What programs of today do: the openai client's methods, with every engine."""

import base64
import struct

import httpx
import openai
import pytest

from tests.unit.serving.gateway.world import (
    CONTEXT,
    MESSAGES,
    MODEL_NAME,
    PROMPT,
    Engine,
    Gateway,
    until,
)

GREEDY = {"model": MODEL_NAME, "temperature": 0, "max_tokens": 12}
NEAR = 1e-4
"""Of log-probabilities in fp32: the tokens that are computed at once differ."""


def test_an_answer_is_what_the_model_generates_for_the_templates_prompt(door, reference):
    answer = door.client().chat.completions.create(messages=MESSAGES, **GREEDY)
    assert answer.choices[0].message.content == reference(PROMPT)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens == len(reference.ids(PROMPT))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


def test_a_stream_says_the_same_piece_by_piece(door, reference):
    stream = door.client().chat.completions.create(messages=MESSAGES, stream=True, **GREEDY)
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(chunks) > 3
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == reference(PROMPT)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert all(chunk.usage is None for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_ends_with_what_it_took_when_asked(door):
    options = {"include_usage": True}
    chunks = list(
        door.client().chat.completions.create(
            messages=MESSAGES, stream=True, stream_options=options, **GREEDY
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 12


def test_a_text_is_continued_whole_and_streamed(door, reference):
    client = door.client()
    whole = client.completions.create(prompt="modal usaha", **GREEDY)
    assert whole.choices[0].text == reference("modal usaha")
    stream = client.completions.create(prompt="modal usaha", stream=True, **GREEDY)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text


def test_token_ids_and_lists_are_prompts_too(door, reference):
    client = door.client()
    texts = client.completions.create(prompt=["modal", "laba"], **GREEDY)
    ids = [reference.ids("modal"), reference.ids("laba")]
    lists = client.completions.create(prompt=ids, **GREEDY)
    assert [c.text for c in lists.choices] == [c.text for c in texts.choices]
    assert [choice.index for choice in lists.choices] == [0, 1]
    one = client.completions.create(prompt=ids[0], **GREEDY)
    assert one.choices[0].text == texts.choices[0].text
    assert one.usage.prompt_tokens == len(ids[0])


def test_n_answers_come_side_by_side_and_each_is_whole(door):
    client = door.client()
    asked = {**GREEDY, "temperature": 1, "seed": 5, "n": 3, "messages": MESSAGES}
    whole = client.chat.completions.create(**asked)
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) > 1, "the same seed would make the same answer three times"
    parts = ["", "", ""]
    for chunk in client.chat.completions.create(stream=True, **asked):
        parts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert parts == texts
    assert 3 <= whole.usage.completion_tokens <= 36
    second = client.chat.completions.create(**{**asked, "n": 1, "seed": 6})
    assert second.choices[0].message.content == texts[1]
    assert whole.usage.prompt_tokens == second.usage.prompt_tokens


def test_log_probabilities_of_chat_and_of_completions(door):
    client = door.client()
    chat = client.chat.completions.create(
        messages=MESSAGES, logprobs=True, top_logprobs=2, **GREEDY
    )
    tokens = chat.choices[0].logprobs.content
    assert len(tokens) == 12
    for token in tokens:
        assert token.logprob == token.top_logprobs[0].logprob < 0
        assert len(token.top_logprobs) == 2
    assert bytes(tokens[0].bytes).decode() == tokens[0].token
    text = client.completions.create(prompt="modal", logprobs=1, **GREEDY).choices[0]
    assert len(text.logprobs.token_logprobs) == len(text.logprobs.tokens) == 12
    stream = client.chat.completions.create(messages=MESSAGES, logprobs=True, stream=True, **GREEDY)
    streamed = [c.choices[0].logprobs.content for c in stream if c.choices[0].logprobs]
    found = [token.logprob for content in streamed for token in content]
    assert found == pytest.approx([token.logprob for token in tokens], abs=NEAR)


def test_log_probabilities_of_the_prompt_whole_and_streamed(door, reference):
    """vLLM has them only in an answer that is not streamed."""
    ids = reference.ids("modal usaha laba")
    asked = {**GREEDY, "prompt": ids, "extra_body": {"prompt_logprobs": 0}}
    client = door.client()
    whole = client.completions.create(**asked)
    first, *rest = client.completions.create(stream=True, **asked)
    for choice in (whole.choices[0], first.choices[0]):
        nothing, *found = choice.prompt_logprobs
        assert nothing is None
        told = [each[str(token)]["logprob"] for token, each in zip(ids[1:], found, strict=True)]
        assert told == pytest.approx(reference.prompt_logprobs(ids), abs=NEAR)
    assert "".join(chunk.choices[0].text for chunk in (first, *rest)) == whole.choices[0].text
    assert whole.usage.completion_tokens == 12


def test_embeddings_as_numbers_and_as_base64_and_of_ids(door, reference):
    client = door.client()
    asked = {"model": MODEL_NAME, "input": ["modal", "laba rugi izin"]}
    if not door.embeds:
        with pytest.raises(openai.BadRequestError, match=f"`{door.engine}` gives no embeddings"):
            client.embeddings.create(**asked)
        return
    # The client itself asks for base64 and decodes it.
    pair = client.embeddings.create(**asked)
    numbers = client.embeddings.create(encoding_format="float", **asked)
    assert pair.data[1].embedding == numbers.data[1].embedding
    raw = door.post("/v1/embeddings", {**asked, "encoding_format": "base64"}).json()
    packed = base64.b64decode(raw["data"][0]["embedding"])
    assert list(struct.unpack(f"{len(packed) // 4}f", packed)) == pair.data[0].embedding
    ids = client.embeddings.create(model=MODEL_NAME, input=reference.ids("modal"))
    assert ids.data[0].embedding == pytest.approx(pair.data[0].embedding, abs=1e-5)
    assert ids.usage.prompt_tokens == len(reference.ids("modal"))
    with pytest.raises(openai.BadRequestError, match="input"):
        client.embeddings.create(model=MODEL_NAME, input=[10**6])


def test_stop_may_be_a_text_or_a_list_and_is_not_part_of_the_answer(door, reference):
    text = reference(PROMPT)
    stop = text[3:5]
    for given in (stop, [stop, "zzz"]):
        answer = door.client().chat.completions.create(messages=MESSAGES, stop=given, **GREEDY)
        assert answer.choices[0].message.content == text[: text.index(stop)]
        assert answer.choices[0].finish_reason == "stop"


def test_max_completion_tokens_is_honoured_and_the_smaller_one_counts(door):
    fields = {"max_tokens": None, "max_completion_tokens": 3, "temperature": 0}
    assert door.chat(**fields).json()["usage"]["completion_tokens"] == 3
    fields = {"max_tokens": 2, "max_completion_tokens": 3, "temperature": 0}
    assert door.chat(**fields).json()["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", 5),
        ("min_p", 0.1),
        ("seed", 7),
        ("presence_penalty", 0.5),
        ("frequency_penalty", 0.5),
        ("repetition_penalty", 1.5),
        ("logit_bias", {"70": 5}),
        ("logprobs", True),
    ],
)
def test_what_an_engine_lacks_is_refused_by_name_and_all_else_is_answered(door, name, value):
    client = door.client()
    asked = {**GREEDY, "messages": MESSAGES, "extra_body": {name: value}}
    if name in door.takes:
        assert client.chat.completions.create(**asked).usage.completion_tokens == 12
        return
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.chat.completions.create(**asked)
    assert unsupported.value.param == name
    assert f"`{name}` is not supported by the engine `{door.engine}`" in unsupported.value.message


def test_the_model_is_listed_and_found_by_name(door):
    client = door.client()
    assert [found.id for found in client.models.list()] == [MODEL_NAME]
    assert client.models.retrieve(MODEL_NAME).id == MODEL_NAME
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_the_client_raises_its_own_errors(door):
    client = door.client()
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    assert unknown.value.code == "model_not_found"
    long = [{"role": "user", "content": "modal " * CONTEXT}]
    with pytest.raises(openai.BadRequestError) as overflow:
        client.chat.completions.create(model=MODEL_NAME, messages=long)
    assert overflow.value.code == "context_length_exceeded"


def test_an_asynchronous_client_streams(door):
    import asyncio

    async def texts() -> list[str]:
        url = f"{door.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(messages=MESSAGES, stream=True, **GREEDY)
            return [chunk.choices[0].delta.content or "" async for chunk in stream]

    whole = door.client().chat.completions.create(messages=MESSAGES, **GREEDY)
    assert "".join(asyncio.run(texts())) == whole.choices[0].message.content


def test_a_request_has_a_number_in_the_answer_at_the_engine_and_in_the_log(
    gateway: Gateway, engine: Engine
):
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        json={"messages": MESSAGES, **GREEDY},
        headers={"X-Request-ID": "pesan-1"},
        timeout=60,
    )
    assert answer.headers["x-request-id"] == "pesan-1"
    assert engine.state()["headers"][0]["x-request-id"] == "pesan-1"
    until(lambda: "id=pesan-1 key=anybody to=blue/e0" in gateway.text)
    wild = httpx.get(f"{gateway.url}/v1/models", headers={"X-Request-ID": "a b\tc"})
    assert wild.headers["x-request-id"] != "a b\tc"
    assert "apa kabar" not in gateway.text
