"""A client that leaves, or reads no further, ends the work that is done for it."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import pytest

from tasks.core.serving.gateway.attending import ClientGone, EventStream, attended


async def leaves() -> dict[str, str]:
    return {"type": "http.disconnect"}


async def stays() -> dict[str, str]:
    return await asyncio.Event().wait() and {}


def ended(work: Coroutine[Any, Any, Any]) -> list[str]:
    """Return what was said when the work ended, with ClientGone."""
    said: list[str] = []

    async def told() -> None:
        try:
            await work
        finally:
            said.append("ended")

    with pytest.raises(ClientGone):
        asyncio.run(attended(leaves, told()))
    return said


def test_work_for_a_client_that_left_is_cancelled() -> None:
    assert ended(asyncio.sleep(3600)) == ["ended"]


def test_work_for_a_client_that_stays_has_its_result() -> None:
    assert asyncio.run(attended(stays, asyncio.sleep(0, "an answer"))) == "an answer"


def test_a_client_that_reads_no_further_is_given_up_and_the_source_closed() -> None:
    closed: list[str] = []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: a\n\n"
        finally:
            closed.append("source")

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(3600)

    async def answered() -> None:
        source = events()
        await EventStream(source, source, client_s=0.01)({}, stays, send)

    with pytest.raises(ClientGone):
        asyncio.run(answered())
    assert closed == ["source"]
