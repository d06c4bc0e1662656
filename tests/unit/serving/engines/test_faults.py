"""Requests that are wrong, clients that leave, texts beside longer ones: on both engines.

Each was seen to block, cut or silently change what FastChat's own servers answered.
"""

import time
from contextlib import ExitStack, closing
from typing import Any

import httpx
import psutil
import pytest

from tasks.core.errors import ServingFailed
from tasks.core.serving.proof.readiness import Expectation
from tests.unit.serving.engines.clients import (
    NAME,
    WAIT_S,
    ask,
    post,
    refused,
    request,
    send,
    until,
)
from tests.unit.serving.engines.conftest import CONTEXT_TOKENS

PROMPT = [1, *range(60, 80)]
ENDLESS = request(PROMPT, max_tokens=CONTEXT_TOKENS - len(PROMPT))
"""Takes the model many seconds: its end token is one of 320, but hardly ever the likeliest."""


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"temperature": None}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": None}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": None}, "top_k"),
        ({"seed": None}, "seed"),
        ({"seed": 10**30}, "seed"),
        ({"logprobs": None}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": CONTEXT_TOKENS}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"prompt": []}, "prompt"),
        ({"prompt": "apa kabar"}, "prompt"),
        ({"prompt": [1, -1]}, "prompt"),
        ({"prompt": [1, 320]}, "prompt"),
        ({"prompt": [1, 2.5]}, "prompt"),
        ({"prompt": [1, None]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": [5] * CONTEXT_TOKENS}, "prompt"),
        ({"stop": "one"}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": None}, "stop"),
        ({"stop_token_ids": [320]}, "stop_token_ids"),
        ({"stream": False}, "stream"),
        ({"stream_options": {"include_usage": False}}, "stream_options"),
        ({"n": 2}, "n"),
        ({"best_of": 2}, "best_of"),
    ],
)
def test_a_value_that_would_not_be_followed_is_a_400_that_names_it(served, changes, named):
    status, message = refused(served.url, {**request(PROMPT), **changes})
    assert status == 400
    assert named in message


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"model": "\xff"}', b'{"stop": ["\\ud800"]}', b"[" * 9000]
)
def test_a_body_that_is_no_request_is_a_400(served, body):
    assert refused(served.url, body)[0] == 400
    assert refused(served.url, body, "/v1/embeddings")[0] == 400


def test_a_model_that_is_not_served_is_a_404(served):
    assert refused(served.url, request(PROMPT, model="gpt-4"))[0] == 404


def test_what_one_engine_lacks_is_a_400_that_names_it(served):
    fields = {"min_p": 0.1, "presence_penalty": 1, "frequency_penalty": 1, "logit_bias": {"5": 1}}
    for name, value in fields.items():
        if name in served.engine.takes:
            assert ask(served.url, PROMPT, **{name: value}).finish_reason
        else:
            assert name in refused(served.url, request(PROMPT, **{name: value}))[1]


def test_a_refused_request_costs_no_place(served):
    for _ in range(served.launch.settings.gateway.max_running + 70):
        assert refused(served.url, request(PROMPT, temperature=None))[0] == 400
    assert ask(served.url, PROMPT).finish_reason


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "before the first byte"])
def test_eight_clients_that_hang_up_keep_neither_the_next_one_waiting_nor_the_model_busy(
    served, streaming
):
    """FastChat#2163: eight such answers were generated to their end; the next waited 75 s."""
    began = time.monotonic()
    ask(served.url, PROMPT, max_tokens=200, temperature=0)
    two_hundred_s = time.monotonic() - began
    with ExitStack() as eight:
        connections = [eight.enter_context(closing(send(served.url, ENDLESS))) for _ in range(8)]
        if streaming:
            # FastChat answers one at a time: the others leave while they wait.
            assert connections[0].recv(100).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    assert ask(served.url, PROMPT, max_tokens=1).finish_reason
    until(lambda: _is_idle(served.pid))
    # Each of the eight would take twenty times as long, and grow slower.
    assert time.monotonic() - began < 40 * two_hundred_s + 10


def _is_idle(pid: int) -> bool:
    return psutil.Process(pid).cpu_percent(interval=0.3) < 20


def test_many_hang_ups_leave_every_place_free(served):
    """More than there are places and places to wait: if all leaked, 429 would stay for ever."""
    gateway = served.launch.settings.gateway
    for _ in range(gateway.max_running + gateway.max_queued + 4):
        with closing(send(served.url, ENDLESS)):
            pass
    # 429 until the engine has read of the last of them.
    until(lambda: post(served.url, request(PROMPT, max_tokens=1)).status_code == 200)
    assert ask(served.url, PROMPT, max_tokens=1).finish_reason


def embedded(url: str, texts: list[list[int]]) -> list[list[float]]:
    answer = post(url, {"model": NAME, "input": texts}, "/v1/embeddings")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["usage"]["prompt_tokens"] == sum(map(len, texts))
    assert [row["index"] for row in body["data"]] == list(range(len(texts)))
    return [row["embedding"] for row in body["data"]]


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_a_text_has_one_embedding_alone_and_beside_longer_ones(served):
    """transformers#30378: padded on the left without a mask, its cosine was 0.35."""
    short, long = [1, 70, 80], [1, *range(5, 200)]
    (alone,) = embedded(served.url, [short])
    beside = embedded(served.url, [long, short, *([long[:100]] * 9), short])
    for found in (beside[1], beside[-1]):
        assert cosine(alone, found) == pytest.approx(1, abs=1e-6)
    assert cosine(alone, beside[0]) < 0.99
    assert cosine(alone, alone) == pytest.approx(1, abs=1e-6)


def test_an_embedding_is_the_mean_of_the_texts_last_hidden_states(served, edited):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        edited, dtype=torch.float32, trust_remote_code=True
    )
    ids = [1, 70, 80, 90]
    with torch.inference_mode():
        mean = model.base_model(torch.tensor([ids])).last_hidden_state[0].mean(dim=0)
    (found,) = embedded(served.url, [ids, [1, 2]][:1])
    assert found == pytest.approx((mean / mean.norm()).tolist(), abs=1e-5)


@pytest.mark.parametrize(
    "texts", [[], [[]], ["modal"], [[320]], [[1] * (CONTEXT_TOKENS + 1)], None]
)
def test_texts_that_cannot_be_embedded_are_a_400(served, texts):
    status, message = refused(served.url, {"model": NAME, "input": texts}, "/v1/embeddings")
    assert status == 400
    assert "input" in message


def test_it_says_what_it_is_and_that_it_takes_requests(served):
    served.engine.ready(served.url)
    report = served.engine.prove(served.url, served.expectation)
    assert report.edit is not None
    assert report.edit["activations"] == ["silu", "silu", "gelu"]
    assert (report.device, report.dtype) == ("cpu", "float32")
    assert "the edit is alive" in served.log
    assert (report.template, report.context_length_tokens) == ("vicuna_v1.1", CONTEXT_TOKENS)


def test_another_build_is_not_taken_for_this_one(served):
    other = Expectation(build="build-2", template="vicuna_v1.1", edit=None)
    with pytest.raises(ServingFailed, match="another build"):
        served.engine.prove(served.url, other)


def test_a_stream_begins_before_its_answer_is_whole(served):
    with httpx.stream(
        "POST", served.url + "/v1/completions", json=ENDLESS, timeout=WAIT_S, trust_env=False
    ) as answer:
        assert answer.status_code == 200
        first = next(answer.iter_lines())
    assert first.startswith("data: {")
