"""Engines that die, hang, fail or are full: a clean error, never a hang, never half an answer."""

import asyncio
import json

import httpx
import openai
import pytest

from tasks.core.serving.gateway.engine_client import _data
from tests.unit.serving.gateway.world import (
    LONG,
    Engine,
    Gateway,
    a_route,
    free_port,
    until,
)


def error_of(answer: httpx.Response, status: int) -> dict:
    body = answer.json()
    assert answer.status_code == status, body
    assert body["object"] == "error"
    assert body["code"] > 0
    assert body["error"]["message"] == body["message"]
    return body


def test_without_a_route_every_request_is_told_to_come_back(start):
    told = {"route": None, "why_not": "A new model is being loaded.", "retry_after_s": 7}
    gateway = start(Gateway, told)
    for answer in (gateway.chat(), httpx.get(f"{gateway.url}/v1/models")):
        assert error_of(answer, 503)["message"] == "A new model is being loaded."
        assert answer.headers["retry-after"] == "7"
    assert httpx.get(f"{gateway.url}/health").status_code == 200
    assert httpx.get(f"{gateway.url}/ready").status_code == 503


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_is_not_there_is_a_503_at_once(start, model, stream):
    gateway = start(Gateway, a_route(model, [f"http://127.0.0.1:{free_port()}"]))
    answer = gateway.chat(stream=stream)
    assert error_of(answer, 503)["code"] == 50005
    assert int(answer.headers["retry-after"]) > 0
    assert httpx.get(f"{gateway.url}/ready").status_code == 503
    assert gateway.metric("kawan_usaha_incidents_total", kind="engine-lost") == 2
    assert gateway.control.state().running == 0


def test_what_one_engine_cannot_answer_another_one_does(start, model, engine):
    gone = f"http://127.0.0.1:{free_port()}"
    gateway = start(Gateway, a_route(model, [gone, engine.url]))
    for stream in (False, True) * 3:
        assert gateway.chat(stream=stream).status_code == 200
    assert httpx.get(f"{gateway.url}/ready").status_code == 200
    # After its first failure the one that is gone rests, and costs nobody an attempt.
    assert gateway.metric("kawan_usaha_incidents_total", kind="engine-lost") == 1


@pytest.mark.parametrize("how", ["429", "503", "500"])
def test_before_the_first_piece_one_failure_is_mended_by_asking_once_more(gateway, engine, how):
    engine.misbehave(how, times=1)
    assert gateway.chat().status_code == 200
    engine.misbehave(how, times=2)
    status = 503 if how == "500" else 429
    answer = gateway.chat(stream=True)
    assert "as told" in error_of(answer, status)["message"]
    assert int(answer.headers["retry-after"]) > 0


def test_what_the_engine_refuses_is_told_and_not_asked_again(gateway, engine):
    engine.misbehave("400", times=1)
    assert error_of(gateway.chat(), 400)["message"] == "as told: 400"
    assert len(engine.state()["asked"]) == 1


@pytest.mark.parametrize("how", ["error-in-stream", "end-in-stream"])
def test_a_stream_that_breaks_off_ends_with_an_error_and_is_not_begun_again(gateway, engine, how):
    engine.misbehave(how, times=1)
    stream = gateway.client().chat.completions.create(stream=True, **LONG)
    with pytest.raises(openai.APIError) as failed:
        list(stream)
    assert "engine" in failed.value.message
    assert len(engine.state()["asked"]) == 1
    assert gateway.control.state().in_flight["blue"]["e0"] == 0


@pytest.mark.parametrize("how", ["error-in-stream", "end-in-stream"])
def test_a_whole_answer_that_breaks_off_is_an_error_and_never_half_an_answer(gateway, engine, how):
    engine.misbehave(how, times=1)
    error_of(gateway.chat(max_tokens=50, temperature=0), 503)  # drawn, it may end at once


def test_an_engine_that_is_killed_ends_its_streams_with_an_error(start, model):
    engine = start(Engine, model)
    until(engine.listens)
    gateway = start(Gateway, a_route(model, [engine.url]))
    engine.misbehave("die-in-stream")
    lines = gateway.chat(stream=True, max_tokens=50, temperature=0).text.split("\n\n")
    last, done, _ = lines[-3:]
    assert done == "data: [DONE]"
    event = json.loads(last.removeprefix("data: "))
    assert event["error"]["type"] == "server_error"
    assert event["error_code"] == event["code"] == 50005
    error_of(gateway.chat(), 503)
    assert gateway.control.state().running == 0


def test_an_engine_that_hangs_before_the_first_token_is_an_error_in_time(start, model, engine):
    gateway = start(Gateway, a_route(model, [engine.url]), first_token_s=1)
    engine.misbehave("hang", times=1)
    assert "first token" in error_of(gateway.chat(), 504)["message"]
    assert gateway.metric("kawan_usaha_incidents_total", kind="engine-timeout") == 1


def test_an_engine_that_hangs_in_the_middle_ends_the_stream_with_an_error(start, model, engine):
    gateway = start(Gateway, a_route(model, [engine.url]), between_tokens_s=1)
    engine.misbehave("hang-in-stream", times=1)
    with pytest.raises(openai.APIError, match="next token"):
        list(gateway.client().chat.completions.create(stream=True, **LONG))
    until(lambda: engine.state()["running"] == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_eight_clients_that_hang_up_leave_nothing_in_flight(gateway, engine, stream):
    engine.misbehave(None, pace_s=1)  # whatever nobody ends goes on for hours
    clients = [gateway.ask_and_wait(LONG | {"stream": stream}) for _ in range(8)]
    until(lambda: gateway.control.state().in_flight["blue"]["e0"] == 8)
    until(lambda: engine.state()["running"] == 8)
    for client in clients:
        client.close()
    until(lambda: gateway.control.state().in_flight["blue"]["e0"] == 0)
    until(lambda: engine.state()["running"] == 0)
    state = gateway.control.state()
    assert (state.running, state.waiting) == (0, 0)
    engine.misbehave(None)
    assert gateway.chat().status_code == 200
    until(lambda: gateway.text.count("499 client-left") >= 8)


def test_who_hangs_up_while_waiting_leaves_the_line(start, model, engine):
    gateway = start(Gateway, a_route(model, [engine.url]), gateway={"max_running": 1})
    engine.misbehave(None, pace_s=1)
    first = gateway.ask_and_wait(LONG | {"stream": True})
    until(lambda: gateway.control.state().running == 1)
    second = gateway.ask_and_wait(LONG)
    until(lambda: gateway.control.state().waiting == 1)
    second.close()
    until(lambda: gateway.control.state().waiting == 0)
    assert gateway.control.state().running == 1
    first.close()
    until(lambda: gateway.control.state().running == 0)


def test_a_text_with_line_separators_comes_through_whole(gateway, engine):
    """httpx's own lines would end in the middle of the event."""

    class Response:
        async def aiter_bytes(self):
            yield 'data: {"text": "a\u2028b\x85'.encode()
            yield b'c"}\n\ndata: [DONE]\n\n'

    async def lines():
        return [line async for line in _data(Response())]

    assert asyncio.run(lines()) == ['{"text": "a\u2028b\x85c"}'.encode(), b"[DONE]"]
