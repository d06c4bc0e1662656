"""The faults of FastChat's own servers, as a client would meet them, with every engine.

Those that the gateway refuses by name stand in test_refusals.py, those of an engine alone in
../engines/test_faults.py. What hangs up on the small engine, or talks with it, has tests elsewhere.
"""

import time

import pytest

from tasks.core.serving.client.chat import Talk
from tests.unit.serving.gateway.conftest import REAL_ENGINES
from tests.unit.serving.gateway.world import (
    CONTEXT,
    LONG,
    MESSAGES,
    MODEL_NAME,
    PROMPT,
    Door,
    until,
)


def answered(door: Door, **fields: object) -> tuple[str, int]:
    """Return a greedy answer and the length of its prompt."""
    answer = door.chat(temperature=0, **fields)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["choices"][0]["message"]["content"], body["usage"]["prompt_tokens"]


@pytest.mark.parametrize("asked", [None, CONTEXT, 100 * CONTEXT])
def test_the_first_token_of_the_prompt_is_never_cut(door, reference, asked):
    """FastChat#3399: of 104 tokens 103, without max_tokens or with more than there is room for."""
    messages = [{"role": "user", "content": "apa kabar " * 180}]
    prompt = PROMPT.replace("apa kabar", "apa kabar " * 180)
    text = reference(prompt)
    found, prompt_tokens = answered(door, messages=messages, max_tokens=asked, stop=text[5:8])
    assert prompt_tokens == len(reference.ids(prompt))
    assert found == text[: text.index(text[5:8])]


def test_an_answer_gets_the_room_that_the_prompt_leaves_and_no_more(gateway, engine, reference):
    long = "a" * 1900
    left = CONTEXT - len(reference.ids(long))
    for prompt, asked, given in (
        ("a", None, 512),
        (long, None, left),
        (long, 5, 5),
        (long, 100 * CONTEXT, left),
    ):
        body = {"model": MODEL_NAME, "prompt": prompt, "max_tokens": asked, "temperature": 0}
        body["stop"] = reference(prompt, tokens=1)
        assert gateway.post("/v1/completions", body).status_code == 200
        assert engine.state()["asked"][0]["max_tokens"] == given


def test_a_text_has_one_embedding_alone_and_beside_a_longer_one(door):
    """transformers#30378: padded on the left without a mask, its cosine was 0.35."""
    if not door.embeds:
        pytest.skip(f"{door.engine} gives no embeddings, and says so: test_openai_client.py")
    client = door.client()
    alone = client.embeddings.create(model=MODEL_NAME, input="modal").data[0].embedding
    texts = ["modal usaha laba rugi " * 20, "modal"]
    beside = client.embeddings.create(model=MODEL_NAME, input=texts).data[1].embedding
    assert beside == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_of_parts_reaches_the_prompt_as_text(door, reference, role):
    """anything-llm#6422: it was Python's `str(list)`."""
    parts = [{"type": "text", "text": "Jawab singkat."}, {"type": "text", "text": "Sopan."}]
    prompt = "Jawab singkat.\nSopan. USER: apa kabar ASSISTANT:"
    messages = [{"role": role, "content": parts}, *MESSAGES]
    expected = reference(prompt), len(reference.ids(prompt))
    assert answered(door, messages=messages, max_tokens=12) == expected


def test_parts_in_an_assistants_message_are_text(door, reference):
    told = {"role": "assistant", "content": [{"type": "text", "text": "baik"}]}
    prompt = f"{PROMPT} baik</s>USER: apa kabar ASSISTANT:"
    expected = reference(prompt), len(reference.ids(prompt))
    assert answered(door, messages=[*MESSAGES, told, *MESSAGES], max_tokens=12) == expected


def test_every_null_is_as_if_the_field_were_not_there(door):
    optional = ("n", "stop", "seed", "logprobs", "top_p", "tools", "stream")
    assert answered(door, **dict.fromkeys(optional), max_completion_tokens=None)


@pytest.mark.parametrize("door", REAL_ENGINES, indirect=True)
@pytest.mark.parametrize("stream", [False, True])
def test_eight_clients_that_hang_up_keep_neither_the_next_one_waiting_nor_the_engine_busy(
    door, stream
):
    """FastChat#2163: eight such answers were generated to their end; the next waited 75 s."""
    began = time.monotonic()
    answered(door, max_tokens=100)
    hundred_tokens_s = time.monotonic() - began
    clients = [door.ask_and_wait(LONG | {"stream": stream}) for _ in range(8)]
    until(lambda: door.in_flight() == 8)
    for client in clients:
        client.close()
    began = time.monotonic()
    assert answered(door, max_tokens=1)
    until(lambda: door.in_flight() == 0 and not door.computes())
    # One after the other, the eight would take 120 times as long as a hundred tokens.
    assert time.monotonic() - began < 20 * hundred_tokens_s + 2


@pytest.mark.parametrize("door", REAL_ENGINES, indirect=True)
def test_a_talk_beyond_the_context_drops_its_oldest_turns_says_so_and_goes_on(door):
    lines = []
    talk = Talk(f"{door.url}/v1", MODEL_NAME, lines.append, max_tokens=16, temperature=0)
    for number in range(4):  # one token a character: two of these fit beside each other, not three
        assert list(talk.ask(f"{number}" * 800))
    line = "(The oldest question and its answer are left out: the model's context is full.)"
    assert lines == [line] * 2
