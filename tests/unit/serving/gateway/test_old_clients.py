"""Kawan Usaha's backend of 2023, which was written for FastChat, works unchanged.

Its requests stand in backend_2023.json as it sends them: without a key, to `/v1/token_check` too,
which FastChat's last release answers with 404.
"""

import json
from pathlib import Path

import httpx
import pytest
from fastchat.protocol.api_protocol import APITokenCheckResponse
from fastchat.protocol.openai_api_protocol import (
    ChatCompletionResponse,
    ChatCompletionStreamResponse,
    ErrorResponse,
    ModelList,
)
from transformers import AutoTokenizer

from tests.unit.serving.gateway.world import CONTEXT, MODEL_NAME

RECORDED = json.loads(Path(__file__).with_name("backend_2023.json").read_text())


def send(gateway, recorded, **changes):
    body = recorded["body"] and recorded["body"] | changes
    url = f"{gateway.url}{recorded['path']}"
    return httpx.request(recorded["method"], url, json=body, timeout=60)


def events(answer):
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("recorded", RECORDED, ids=[recorded["what"] for recorded in RECORDED])
def test_the_backends_requests_are_answered(gateway, recorded):
    assert send(gateway, recorded).status_code == 200


def test_the_answers_are_what_fastchats_own_types_say(gateway):
    models, whole, stream, check = (send(gateway, recorded) for recorded in RECORDED)
    assert ModelList.model_validate(models.json()).data[0].id == MODEL_NAME
    answer = ChatCompletionResponse.model_validate(whole.json())
    assert answer.usage.completion_tokens <= 8
    assert answer.choices[0].message.role == "assistant"
    chunks = [ChatCompletionStreamResponse.model_validate(event) for event in events(stream)]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    (item,) = APITokenCheckResponse.model_validate(check.json()).prompts
    assert item.fits


def test_a_text_is_counted_as_fastchats_worker_counts_it(gateway, model):
    text = "modal usaha " * 100
    count = len(AutoTokenizer.from_pretrained(model)(text).input_ids)
    for path in ("/v1/token_check", "/api/v1/token_check"):
        for room, fits in ((CONTEXT - count, True), (CONTEXT - count + 1, False)):
            prompts = [{"model": MODEL_NAME, "prompt": text, "max_tokens": room}]
            (item,) = gateway.post(path, {"prompts": prompts}).json()["prompts"]
            assert item == {"fits": fits, "tokenCount": count, "contextLength": CONTEXT}


def test_the_backend_shortens_a_conversation_until_it_fits(gateway):
    """Its loop: while the body bears a code above 0, leave out the oldest turn."""
    turns = [
        {"role": role, "content": "a" * 600} for _ in range(4) for role in ("user", "assistant")
    ]
    messages = [*turns, {"role": "user", "content": "Jadi?"}]
    codes = []
    while True:
        body = send(gateway, RECORDED[1], messages=messages).json()
        code = body.get("code", 0)
        codes.append(code)
        if not code > 0:
            break
        assert ErrorResponse.model_validate(body).code == 40303
        messages = messages[1:]
    assert codes[-1] == 0
    assert set(codes[:-1]) == {40303}
    assert body["choices"][0]["message"]["role"] == "assistant"


def test_an_old_clients_whole_prompt_in_place_of_messages_is_taken_as_it_is(gateway, engine, model):
    answer = gateway.chat(messages="USER: apa ASSISTANT:")
    assert answer.status_code == 200, answer.text
    (asked,) = engine.state()["asked"]
    assert AutoTokenizer.from_pretrained(model).decode(asked["prompt"]) == "USER: apa ASSISTANT:"


def test_top_p_of_zero_means_the_likeliest_word_as_in_fastchat(gateway, engine):
    assert gateway.chat(top_p=0).status_code == 200
    (asked,) = engine.state()["asked"]
    assert (asked["temperature"], asked["top_p"]) == (0, 1)


def test_a_failure_in_the_middle_of_a_stream_has_fastchats_fields(gateway, engine):
    engine.misbehave("error-in-stream", times=1)
    *_, last = events(send(gateway, RECORDED[2]))
    assert last["error_code"] > 0
    assert "out of memory" in last["text"]
