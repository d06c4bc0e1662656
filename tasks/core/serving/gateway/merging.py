"""Merging several answers into one stream of pieces, each with the number of its answer."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from tasks.core.serving.gateway.engine_client import AnswerPiece, Usage

Event = tuple[int, AnswerPiece | Usage]
_AHEAD = 8  # pieces per answer that are buffered for a slow client


async def merged(
    answers: Sequence[AsyncGenerator[AnswerPiece | Usage, None]],
) -> AsyncGenerator[Event, None]:
    """Yield (number, piece) as they arrive, until all answers have ended.

    The first error ends the others and is raised. Closing this generator ends all of them.
    """
    if len(answers) == 1:  # almost always; without a task and a queue in between
        async with aclosing(answers[0]) as pieces:
            async for piece in pieces:
                yield 0, piece
        return
    queue: asyncio.Queue[Event | Exception | None] = asyncio.Queue(_AHEAD * len(answers))
    tasks = [asyncio.create_task(_fill(queue, n, one)) for n, one in enumerate(answers)]
    try:
        running = len(tasks)
        while running:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _fill(
    queue: asyncio.Queue[Event | Exception | None],
    number: int,
    answer: AsyncGenerator[AnswerPiece | Usage, None],
) -> None:
    try:
        async with aclosing(answer) as pieces:
            async for piece in pieces:
                await queue.put((number, piece))
    except Exception as error:  # noqa: BLE001 - raised again by the one who reads
        await queue.put(error)
    else:
        await queue.put(None)
