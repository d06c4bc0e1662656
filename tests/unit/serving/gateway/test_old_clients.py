"""Kawan Usaha's backend of 2023, which was written for FastChat, works unchanged with every engine.

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

from tests.unit.serving.gateway.world import CONTEXT, MODEL_NAME

RECORDED = json.loads(Path(__file__).with_name("backend_2023.json").read_text())


def send(door, recorded, **changes):
    body = recorded["body"] and recorded["body"] | changes
    url = f"{door.url}{recorded['path']}"
    return httpx.request(recorded["method"], url, json=body, timeout=60)


def events(answer):
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    content: str = answer.json()["choices"][0]["message"]["content"]
    return content


@pytest.mark.parametrize("recorded", RECORDED, ids=[recorded["what"] for recorded in RECORDED])
def test_the_backends_requests_are_answered(door, recorded):
    assert send(door, recorded).status_code == 200


def test_the_answers_are_what_fastchats_own_types_say(door):
    models, whole, stream, check = (send(door, recorded) for recorded in RECORDED)
    assert ModelList.model_validate(models.json()).data[0].id == MODEL_NAME
    answer = ChatCompletionResponse.model_validate(whole.json())
    assert answer.usage.completion_tokens <= 8
    assert answer.choices[0].message.role == "assistant"
    chunks = [ChatCompletionStreamResponse.model_validate(event) for event in events(stream)]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    (item,) = APITokenCheckResponse.model_validate(check.json()).prompts
    assert item.fits


def test_a_text_is_counted_as_fastchats_worker_counts_it(door, reference):
    text = "modal usaha " * 100
    count = len(reference.ids(text))
    for path in ("/v1/token_check", "/api/v1/token_check"):
        for room, fits in ((CONTEXT - count, True), (CONTEXT - count + 1, False)):
            prompts = [{"model": MODEL_NAME, "prompt": text, "max_tokens": room}]
            (item,) = door.post(path, {"prompts": prompts}).json()["prompts"]
            assert item == {"fits": fits, "tokenCount": count, "contextLength": CONTEXT}


def test_the_backend_shortens_a_conversation_until_it_fits(door):
    """Its loop: while the body bears a code above 0, leave out the oldest turn."""
    turns = [
        {"role": role, "content": "a" * 600} for _ in range(4) for role in ("user", "assistant")
    ]
    messages = [*turns, {"role": "user", "content": "Jadi?"}]
    codes = []
    while True:
        body = send(door, RECORDED[1], messages=messages).json()
        code = body.get("code", 0)
        codes.append(code)
        if not code > 0:
            break
        assert ErrorResponse.model_validate(body).code == 40303
        messages = messages[1:]
    assert codes[-1] == 0
    assert set(codes[:-1]) == {40303}
    assert body["choices"][0]["message"]["role"] == "assistant"


def test_an_old_clients_whole_prompt_in_place_of_messages_is_taken_as_it_is(door, reference):
    prompt = "USER: apa ASSISTANT:"
    answer = door.chat(messages=prompt, max_tokens=12, temperature=0)
    assert said(answer) == reference(prompt)
    assert answer.json()["usage"]["prompt_tokens"] == len(reference.ids(prompt))


def test_top_p_of_zero_means_the_likeliest_word_as_in_fastchat(door):
    greedy = said(door.chat(temperature=0, max_tokens=12))
    assert said(door.chat(top_p=0, temperature=2, max_tokens=12)) == greedy


def test_a_failure_in_the_middle_of_a_stream_has_fastchats_fields(gateway, engine):
    engine.misbehave("error-in-stream", times=1)
    *_, last = events(send(gateway, RECORDED[2], temperature=0))  # drawn, it may end before
    assert last["error_code"] > 0
    assert "out of memory" in last["text"]
