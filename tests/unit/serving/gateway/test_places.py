"""First come, first served; who leaves gives back its place."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tasks.core.serving.gateway.api_error import ApiError
from tasks.core.serving.gateway.places import GatewayPlaces


class World:
    """Requests that hold their places until they are let go, and the order in which they began."""

    def __init__(self, max_running: int, max_queued: int) -> None:
        self.places = GatewayPlaces(max_running, max_queued)
        self.began: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.ends: dict[str, asyncio.Event] = {}

    async def ask(self, name: str, count: int = 1) -> None:
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, count))
        await asyncio.sleep(0.01)

    async def _hold(self, name: str, count: int) -> None:
        async with self.places.taken(count):
            self.began.append(name)
            await self.ends[name].wait()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await asyncio.sleep(0.01)

    async def leave(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks[name], return_exceptions=True)


def in_world(story: Callable[[World], Awaitable[None]], max_running: int, max_queued: int) -> None:
    async def run() -> None:
        await story(World(max_running, max_queued))

    asyncio.run(run())


def test_the_order_is_the_one_of_arrival_also_for_one_that_wants_more():
    async def story(world):
        for name, count in (("a", 1), ("b", 1), ("c", 2), ("d", 1)):
            await world.ask(name, count)
        assert world.began == ["a", "b"]
        await world.end("a")
        assert world.began == ["a", "b"], "d fits, and must not overtake c"
        await world.end("b")
        assert world.began == ["a", "b", "c"]
        await world.end("c")
        await world.end("d")
        assert world.began == ["a", "b", "c", "d"]
        assert (world.places.running, world.places.waiting) == (0, 0)

    in_world(story, 2, 8)


def test_a_full_line_refuses_with_the_time_to_come_back():
    async def story(world):
        for name in ("a", "b"):
            await world.ask(name)
        with pytest.raises(ApiError) as full:
            async with world.places.taken(1):
                pass
        assert full.value.status == 429
        assert full.value.retry_after_s
        await world.end("a")
        await world.end("b")

    in_world(story, 1, 1)


def test_more_than_there_are_is_refused_and_does_not_wait_for_ever():
    async def story(world):
        with pytest.raises(ApiError) as many:
            async with world.places.taken(3):
                pass
        assert many.value.status == 400

    in_world(story, 2, 8)


def test_who_leaves_the_line_lets_those_behind_through():
    async def story(world):
        for name, count in (("a", 1), ("b", 2), ("c", 1)):
            await world.ask(name, count)
        await world.leave("b")
        await asyncio.sleep(0.01)
        assert world.began == ["a", "c"]

    in_world(story, 2, 8)


def test_who_leaves_in_the_moment_of_being_called_gives_the_place_on():
    async def story(world):
        for name in ("a", "b", "c"):
            await world.ask(name)
        world.ends["a"].set()
        while world.places.waiting == 2:
            await asyncio.sleep(0)
        world.tasks["b"].cancel()
        await asyncio.sleep(0.01)
        assert world.began == ["a", "c"]
        await world.end("c")
        assert (world.places.running, world.places.waiting) == (0, 0)

    in_world(story, 1, 8)


def test_whoever_leaves_whenever_the_count_is_right_at_the_end():
    async def story(world):
        chance = random.Random(7)  # noqa: S311 - no secret
        for step in range(300):
            await asyncio.sleep(0)
            name = f"r{step}"
            world.ends[name] = asyncio.Event()
            world.tasks[name] = asyncio.create_task(world._hold(name, chance.randint(1, 3)))
            victim = chance.choice(list(world.tasks))
            chance.choice([world.tasks[victim].cancel, world.ends[victim].set])()
        for end in world.ends.values():
            end.set()
        await asyncio.gather(*world.tasks.values(), return_exceptions=True)
        assert (world.places.running, world.places.waiting) == (0, 0)

    in_world(story, 3, 1000)
