"""What programs of today do: the openai client's methods, against a real engine."""

import base64
import struct

import httpx
import openai
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.unit.serving.gateway.world import CONTEXT, MESSAGES, MODEL_NAME, Engine, Gateway, until

GREEDY = {"model": MODEL_NAME, "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def reference(model):
    """The answer that plain `generate` gives."""
    llama = AutoModelForCausalLM.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)

    def answer(prompt: str) -> str:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        found = llama.generate(ids, max_new_tokens=12, do_sample=False)
        return tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)

    return answer


PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: apa kabar ASSISTANT:"
)


def test_an_answer_is_what_the_model_generates_for_the_templates_prompt(gateway, reference):
    answer = gateway.client().chat.completions.create(messages=MESSAGES, **GREEDY)
    assert answer.choices[0].message.content == reference(PROMPT)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


def test_a_stream_says_the_same_piece_by_piece(gateway, reference):
    stream = gateway.client().chat.completions.create(messages=MESSAGES, stream=True, **GREEDY)
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(chunks) > 3
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == reference(PROMPT)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert all(chunk.usage is None for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_ends_with_what_it_took_when_asked(gateway):
    options = {"include_usage": True}
    chunks = list(
        gateway.client().chat.completions.create(
            messages=MESSAGES, stream=True, stream_options=options, **GREEDY
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 12


def test_a_text_is_continued_whole_and_streamed(gateway, reference):
    client = gateway.client()
    whole = client.completions.create(prompt="modal usaha", **GREEDY)
    assert whole.choices[0].text == reference("modal usaha")
    stream = client.completions.create(prompt="modal usaha", stream=True, **GREEDY)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text


def test_token_ids_and_lists_are_prompts_too(gateway, engine):
    client = gateway.client()
    texts = client.completions.create(prompt=["modal", "laba"], **GREEDY)
    ids = [given["prompt"] for given in engine.state()["asked"]]
    assert len(ids) == 2
    lists = client.completions.create(prompt=ids, **GREEDY)
    assert [c.text for c in lists.choices] == [c.text for c in texts.choices]
    assert [choice.index for choice in lists.choices] == [0, 1]
    one = client.completions.create(prompt=ids[0], **GREEDY)
    assert one.choices[0].text == texts.choices[0].text
    assert one.usage.prompt_tokens == len(ids[0])


def test_n_answers_come_side_by_side_and_each_is_whole(gateway, engine):
    client = gateway.client()
    asked = {**GREEDY, "temperature": 1, "seed": 5, "n": 3, "messages": MESSAGES}
    whole = client.chat.completions.create(**asked)
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) > 1, "the same seed would make the same answer three times"
    assert [body["seed"] for body in engine.state()["asked"]] == [5, 6, 7]
    parts = ["", "", ""]
    for chunk in client.chat.completions.create(stream=True, **asked):
        parts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert parts == texts
    assert whole.usage.completion_tokens == 36
    single = client.chat.completions.create(**{**asked, "n": 1})
    assert whole.usage.prompt_tokens == single.usage.prompt_tokens


def test_log_probabilities_of_chat_and_of_completions(gateway):
    client = gateway.client()
    chat = client.chat.completions.create(
        messages=MESSAGES, logprobs=True, top_logprobs=2, **GREEDY
    )
    tokens = chat.choices[0].logprobs.content
    assert len(tokens) == 12
    assert all(token.logprob == token.top_logprobs[0].logprob for token in tokens)
    assert all(len(token.top_logprobs) == 2 and token.logprob < 0 for token in tokens)
    assert bytes(tokens[0].bytes).decode() == tokens[0].token
    text = client.completions.create(prompt="modal", logprobs=1, **GREEDY).choices[0]
    assert len(text.logprobs.token_logprobs) == len(text.logprobs.tokens) == 12
    stream = client.chat.completions.create(messages=MESSAGES, logprobs=True, stream=True, **GREEDY)
    streamed = [c.choices[0].logprobs.content[0] for c in stream if c.choices[0].logprobs]
    assert [token.logprob for token in streamed] == [token.logprob for token in tokens]


def test_embeddings_as_numbers_and_as_base64_and_of_ids(gateway, engine):
    client = gateway.client()
    asked = {"model": MODEL_NAME, "input": ["modal", "laba rugi izin"]}
    # The client itself asks for base64 and decodes it.
    pair = client.embeddings.create(**asked)
    numbers = client.embeddings.create(encoding_format="float", **asked)
    assert pair.data[1].embedding == numbers.data[1].embedding
    raw = gateway.post("/v1/embeddings", {**asked, "encoding_format": "base64"}).json()
    packed = base64.b64decode(raw["data"][0]["embedding"])
    assert list(struct.unpack(f"{len(packed) // 4}f", packed)) == pair.data[0].embedding
    alone = client.embeddings.create(model=MODEL_NAME, input="modal")
    assert alone.data[0].embedding == pair.data[0].embedding
    assert alone.usage.prompt_tokens > 0


def test_every_null_is_as_if_the_field_were_not_there(gateway):
    optional = (
        "n",
        "stop",
        "seed",
        "logprobs",
        "top_p",
        "tools",
        "stream",
        "max_completion_tokens",
    )
    answer = gateway.chat(**dict.fromkeys(optional))
    assert answer.status_code == 200, answer.text


def test_stop_may_be_a_text_or_a_list_and_is_not_part_of_the_answer(gateway, reference):
    text = reference(PROMPT)
    stop = text[3:5]
    for given in (stop, [stop, "zzz"]):
        answer = gateway.client().chat.completions.create(messages=MESSAGES, stop=given, **GREEDY)
        assert answer.choices[0].message.content == text[: text.index(stop)]
        assert answer.choices[0].finish_reason == "stop"


def test_max_completion_tokens_is_honoured_and_the_smaller_one_counts(gateway):
    fields = {"max_tokens": None, "max_completion_tokens": 3}
    assert gateway.chat(**fields).json()["usage"]["completion_tokens"] == 3
    fields = {"max_tokens": 2, "max_completion_tokens": 3}
    assert gateway.chat(**fields).json()["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_of_parts_reaches_the_prompt_as_text(gateway, engine, model, role):
    parts = [{"type": "text", "text": "Jawab singkat."}, {"type": "text", "text": "Sopan."}]
    messages = [{"role": role, "content": parts}, *MESSAGES]
    assert gateway.chat(messages=messages).status_code == 200
    ids = engine.state()["asked"][0]["prompt"]
    text = AutoTokenizer.from_pretrained(model).decode(ids)
    assert text == "Jawab singkat.\nSopan. USER: apa kabar ASSISTANT:"


def test_parts_in_an_assistants_message_are_text(gateway, engine, model):
    told = {"role": "assistant", "content": [{"type": "text", "text": "baik"}]}
    assert gateway.chat(messages=[*MESSAGES, told, *MESSAGES]).status_code == 200
    ids = engine.state()["asked"][0]["prompt"]
    text = AutoTokenizer.from_pretrained(model).decode(ids)
    assert text.endswith("USER: apa kabar ASSISTANT: baik</s>USER: apa kabar ASSISTANT:")


@pytest.mark.parametrize("asked", [None, CONTEXT, 100 * CONTEXT])
def test_the_first_token_of_the_prompt_is_never_cut(gateway, engine, model, asked):
    fields = {} if asked is None else {"max_tokens": asked}
    messages = [{"role": "user", "content": "apa kabar " * 180}]
    body = {"model": MODEL_NAME, "messages": messages, "stop": "a", "temperature": 0, **fields}
    answer = gateway.post("/v1/chat/completions", body)
    assert answer.status_code == 200, answer.text
    (given,) = engine.state()["asked"]
    whole = PROMPT.replace("apa kabar", "apa kabar " * 180)
    assert given["prompt"] == AutoTokenizer.from_pretrained(model)(whole).input_ids
    assert given["max_tokens"] == min(
        512 if asked is None else 4096, CONTEXT - len(given["prompt"])
    )


def test_the_model_is_listed_and_found_by_name(gateway):
    client = gateway.client()
    assert [found.id for found in client.models.list()] == [MODEL_NAME]
    assert client.models.retrieve(MODEL_NAME).id == MODEL_NAME
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_the_client_raises_its_own_errors(gateway):
    client = gateway.client()
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    assert unknown.value.code == "model_not_found"
    long = [{"role": "user", "content": "modal " * CONTEXT}]
    with pytest.raises(openai.BadRequestError) as overflow:
        client.chat.completions.create(model=MODEL_NAME, messages=long)
    assert overflow.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.chat.completions.create(messages=MESSAGES, presence_penalty=1, **GREEDY)
    assert unsupported.value.param == "presence_penalty"
    assert "transformers" in unsupported.value.message


def test_an_asynchronous_client_streams(gateway):
    import asyncio

    async def texts() -> list[str]:
        url = f"{gateway.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(messages=MESSAGES, stream=True, **GREEDY)
            return [chunk.choices[0].delta.content or "" async for chunk in stream]

    whole = gateway.client().chat.completions.create(messages=MESSAGES, **GREEDY)
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
