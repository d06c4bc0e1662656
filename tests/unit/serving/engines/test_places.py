"""Places are given in order, never beyond the room, and come back however a request ends."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tasks.core.serving.engines.generator import GeneratorRoom
from tasks.core.serving.engines.places import EnginePlaces
from tasks.core.serving.engines.request import RequestRefused


class Clients:
    """Requests that hold their place until they are told to end."""

    def __init__(self, places: EnginePlaces) -> None:
        self._places = places
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def come(self, name: str, cost: int = 1) -> None:
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, cost))
        await settled()

    async def leave(self, name: str) -> None:
        self._ends[name].set()
        await settled()

    async def hang_up(self, name: str) -> None:
        self.tasks[name].cancel()
        await settled()

    async def _hold(self, name: str, cost: int) -> None:
        async with self._places.place(cost):
            self.inside.append(name)
            try:
                await self._ends[name].wait()
            finally:
                self.inside.remove(name)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def story(
    room: GeneratorRoom, waiting: int
) -> Callable[[Callable[[EnginePlaces, Clients], Awaitable[None]]], None]:
    def run(tell: Callable[[EnginePlaces, Clients], Awaitable[None]]) -> None:
        async def told() -> None:
            places = EnginePlaces(room, waiting=waiting)
            await tell(places, Clients(places))

        asyncio.run(told())

    return run


def test_the_first_to_come_is_the_first_to_enter():
    @story(GeneratorRoom(requests=1, capacity=1), waiting=4)
    async def _(places: EnginePlaces, clients: Clients) -> None:
        for name in "abc":
            await clients.come(name)
        assert clients.inside == ["a"]
        await clients.leave("a")
        assert clients.inside == ["b"]
        assert places.taken == 2


def test_a_request_beyond_the_queue_is_a_429():
    @story(GeneratorRoom(requests=1, capacity=1), waiting=1)
    async def _(places: EnginePlaces, clients: Clients) -> None:
        for name in "abc":
            await clients.come(name)
        with pytest.raises(RequestRefused) as refused:
            clients.tasks["c"].result()
        assert refused.value.status == 429
        assert places.taken == 2


def test_a_large_request_waits_for_its_room_and_is_not_overtaken():
    @story(GeneratorRoom(requests=8, capacity=10), waiting=8)
    async def _(places: EnginePlaces, clients: Clients) -> None:
        await clients.come("a", 4)
        await clients.come("large", 7)
        await clients.come("small", 1)
        assert clients.inside == ["a"]
        await clients.leave("a")
        assert clients.inside == ["large", "small"]


def test_whoever_hangs_up_while_waiting_makes_way():
    @story(GeneratorRoom(requests=2, capacity=10), waiting=8)
    async def _(places: EnginePlaces, clients: Clients) -> None:
        await clients.come("a", 6)
        await clients.come("large", 7)
        await clients.come("small", 1)
        await clients.hang_up("large")
        assert clients.inside == ["a", "small"]
        assert places.taken == 2


def test_whoever_hangs_up_in_the_moment_of_entering_gives_the_place_back():
    @story(GeneratorRoom(requests=1, capacity=1), waiting=8)
    async def _(places: EnginePlaces, clients: Clients) -> None:
        await clients.come("a")
        await clients.come("b")
        await clients.come("c")
        clients.tasks["a"].cancel()
        await asyncio.sleep(0)  # a has given its place to b, which does not know yet
        clients.tasks["b"].cancel()
        await settled()
        assert clients.inside == ["c"]
        await clients.leave("c")
        assert places.taken == 0


def test_a_process_that_ends_refuses_who_waits_and_who_comes():
    @story(GeneratorRoom(requests=1, capacity=1), waiting=8)
    async def _(places: EnginePlaces, clients: Clients) -> None:
        await clients.come("a")
        await clients.come("b")
        places.close()
        await clients.come("c")
        for name in "bc":
            with pytest.raises(RequestRefused) as refused:
                clients.tasks[name].result()
            assert refused.value.status == 503
        await clients.leave("a")
        assert places.taken == 0
