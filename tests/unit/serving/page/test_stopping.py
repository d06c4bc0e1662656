"""An answer ends when its session says so, and its stream is closed whichever way it ended."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from tasks.core.serving.page.stopping import AnswerStopped, Stops


class Answer:
    """Pieces, each after a time; it knows how it was left."""

    def __init__(self, *pieces: str | Exception, pace_s: float = 0.0) -> None:
        self.pieces, self.pace_s, self.closed = pieces, pace_s, False

    async def stream(self) -> AsyncGenerator[str, None]:
        try:
            for piece in self.pieces:
                await asyncio.sleep(self.pace_s)
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed = True


def test_it_is_handed_on_whole_when_nobody_stops_it():
    async def run() -> list[str]:
        return [piece async for piece in Stops().heeded("me", Answer("a", "b").stream())]

    assert asyncio.run(run()) == ["a", "b"]


def test_it_ends_at_once_while_the_next_piece_is_waited_for():
    answer = Answer("a", pace_s=3600)

    async def run() -> None:
        stops = Stops()
        asyncio.get_running_loop().call_later(0.05, stops.stop, "me")
        async for _ in stops.heeded("me", answer.stream()):
            pass

    with pytest.raises(AnswerStopped):
        asyncio.run(asyncio.wait_for(run(), 30))
    assert answer.closed


def test_another_session_stops_nothing():
    async def run() -> list[str]:
        stops, found = Stops(), []
        async for piece in stops.heeded("me", Answer("a", "b").stream()):
            stops.stop("you")
            stops.stop(None)
            found.append(piece)
        return found

    assert asyncio.run(run()) == ["a", "b"]


def test_a_failure_is_the_answers_own():
    answer = Answer("a", ValueError("broken"))

    async def run() -> None:
        async for _ in Stops().heeded("me", answer.stream()):
            pass

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(run())
    assert answer.closed


def test_a_reader_who_leaves_closes_it():
    answer = Answer("a", "b", pace_s=0.01)

    async def run() -> None:
        heeded = Stops().heeded("me", answer.stream())
        await anext(heeded)
        await heeded.aclose()
        assert answer.closed

    asyncio.run(run())


def test_a_reader_who_is_cancelled_while_waiting_closes_it():
    answer = Answer("a", pace_s=3600)

    async def run() -> None:
        async def read() -> None:
            async for _ in Stops().heeded("me", answer.stream()):
                pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert answer.closed

    asyncio.run(run())
