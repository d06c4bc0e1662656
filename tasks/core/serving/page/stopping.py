"""Answers that end when a person says so, by the session of the page that reads them.

gradio can cancel an event, but between its browser side and its server that sometimes loses the
next one, and leaves "Error" on the page. Here the event ends by itself. The invariant: once an
answer has ended, its stream is closed, whichever way it ended.

No answer offers the next step in its own last words: what arrives before gradio has ended the event
on both sides is ignored where it would begin the same event (trigger_mode "once"), so that a click
was lost on a slow connection. What offers it is an event of its own, which follows (`.then`).
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TypeVar

T = TypeVar("T")


class AnswerStopped(Exception):
    """A person has stopped the answer."""


class Stops:
    """The answers in progress of one tab, one a session."""

    def __init__(self) -> None:
        self._asked: dict[str | None, asyncio.Event] = {}

    def stop(self, session: str | None) -> None:
        """End what this session reads, if anything."""
        if (asked := self._asked.get(session)) is not None:
            asked.set()

    async def heeded(
        self, session: str | None, answer: AsyncGenerator[T, None]
    ) -> AsyncGenerator[T, None]:
        """Yield what the answer yields. Raises Stopped as soon as its session has stopped it."""
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
    """Return once a task has ended, of itself or for this. Its failure is for who takes it."""
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
