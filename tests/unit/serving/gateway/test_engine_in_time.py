"""An engine that is full may be asked again, or another one; one that is slow may not."""

import asyncio
from collections.abc import AsyncGenerator

import httpx
import pytest

from tasks.core.serving.gateway.engine_client import (
    EngineBusy,
    EngineClient,
    EngineLimits,
    EngineLost,
    EngineTimeout,
)
from tasks.core.serving.state.routes import Upstream


async def answer_of(
    engine: httpx.MockTransport, *, first_token_s: float = 60.0, between_tokens_s: float = 60.0
) -> list[object]:
    async with httpx.AsyncClient(transport=engine) as http:
        upstream = Upstream(name="blue", url="http://engine")
        limits = EngineLimits(first_token_s, between_tokens_s)
        client = EngineClient(http, upstream, limits, build="b")
        return [piece async for piece in client.complete({}, "id")]


async def _never(_: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    return httpx.Response(200)


async def _one_token() -> AsyncGenerator[bytes, None]:
    yield b'data: {"choices": [{"text": "a"}]}\n\n'
    await asyncio.Event().wait()


def test_an_engine_that_is_full_is_one_that_another_may_answer_for() -> None:
    full = httpx.MockTransport(lambda _: httpx.Response(429, json={"error": "full"}))
    with pytest.raises(EngineBusy, match="full"):
        asyncio.run(answer_of(full))
    assert issubclass(EngineBusy, EngineLost)


def test_an_engine_that_is_slow_to_begin_is_not_asked_again() -> None:
    with pytest.raises(EngineTimeout, match="the first token"):
        asyncio.run(answer_of(httpx.MockTransport(_never), first_token_s=0.01))
    assert not issubclass(EngineTimeout, EngineLost)


def test_an_engine_that_stops_in_the_middle_is_given_up() -> None:
    stuck = httpx.MockTransport(lambda _: httpx.Response(200, content=_one_token()))
    with pytest.raises(EngineTimeout, match="its next token"):
        asyncio.run(answer_of(stuck, between_tokens_s=0.01))
