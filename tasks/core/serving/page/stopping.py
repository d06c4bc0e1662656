"""Stopping an answer on request, by the session of the page that reads it.

gradio can cancel an event, but its browser and server sides then sometimes lose the next one, and
leave "Error" on the page. Here the event ends by itself. The invariant: once an answer has ended,
its stream is closed, however it ended.

An answer never enables the next step in its last update: gradio ignores an event that starts before
the same event has ended on both sides (trigger_mode "once"), so that a click was lost on a slow
connection. A separate event that follows (`.then`) enables it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TypeVar

T = TypeVar("T")


class AnswerStopped(Exception):
    """The person has stopped the answer."""


class Stops:
    """The answers in progress of one tab, one per session."""

    def __init__(self) -> None:
        self._asked: dict[str | None, asyncio.Event] = {}

    def stop(self, session: str | None) -> None:
        """Stop the answer of this session, if there is one."""
        if (asked := self._asked.get(session)) is not None:
            asked.set()

    async def heeded(
        self, session: str | None, answer: AsyncGenerator[T, None]
    ) -> AsyncGenerator[T, None]:
        """Yield what the answer yields. Raises AnswerStopped once its session has stopped it."""
        asked = self._asked[session] = asyncio.Event()
        stopping = asyncio.ensure_future(asked.wait())
        try:
            async with aclosing(answer):
                while True:
                    following = asyncio.ensure_future(_next(answer))
                    try:
                        await asyncio.wait(
                            {following, stopping}, return_when=asyncio.FIRST_COMPLETED
                        )
                        if stopping.done():
                            raise AnswerStopped
                    finally:
                        await _settled(following)
                    if (found := following.result()) is None:
                        return
                    yield found[0]
        finally:
            stopping.cancel()
            if self._asked.get(session) is asked:
                del self._asked[session]


async def _next(answer: AsyncGenerator[T, None]) -> tuple[T] | None:
    try:
        return (await anext(answer),)
    except StopAsyncIteration:
        return None


async def _settled(task: asyncio.Task[tuple[T] | None]) -> None:
    """Cancel a task if it is still running, and wait for its end. Ignores its error."""
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
