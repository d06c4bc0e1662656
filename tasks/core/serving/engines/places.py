"""Admission of requests to a generator: which ones run and which ones wait, in order of arrival.

The invariant: what a request took is released when its block ends, however it ends, also while it
waits.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tasks.core.serving.engines.generator import GeneratorRoom
from tasks.core.serving.engines.request import RequestRefused


class EnginePlaces:
    """The capacity of a generator, with a bounded queue in front. For one event loop."""

    def __init__(self, room: GeneratorRoom, *, waiting: int) -> None:
        self._room = room
        self._most = room.requests + waiting
        self._running = 0
        self._used = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._closed = False

    @property
    def taken(self) -> int:
        """How many requests run or wait."""
        return self._running + len(self._queue)

    @property
    def closed(self) -> bool:
        """Whether the process is stopping."""
        return self._closed

    def close(self) -> None:
        """Refuse all waiting and new requests."""
        self._closed = True
        for _, ready in self._queue:
            if not ready.done():
                ready.set_exception(_ending())

    @asynccontextmanager
    async def place(self, cost: int) -> AsyncIterator[None]:
        """Wait for a place and hold it during the block.

        Raises RequestRefused: 429 when too many wait, 503 when the process is stopping.
        """
        if self._closed:
            raise _ending()
        if self.taken >= self._most:
            raise RequestRefused(429, "Too many requests wait already.", "queue_full")
        await self._enter(min(cost, self._room.capacity))
        try:
            yield
        finally:
            self._running -= 1
            self._used -= min(cost, self._room.capacity)
            self._admit()

    async def _enter(self, cost: int) -> None:
        """Return with a place taken."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (cost, ready)
        self._queue.append(entry)
        self._admit()
        try:
            await ready
        except BaseException:
            if entry in self._queue:
                self._queue.remove(entry)
            elif ready.done() and not ready.cancelled() and ready.exception() is None:
                # Admitted at the moment when its client disconnected.
                self._running -= 1
                self._used -= cost
            self._admit()
            raise

    def _admit(self) -> None:
        while self._queue and not self._closed:
            cost, ready = self._queue[0]
            fits = self._used + cost <= self._room.capacity
            if self._running >= self._room.requests or not fits:
                return
            self._queue.popleft()
            if ready.done():  # cancelled
                continue
            self._running += 1
            self._used += cost
            ready.set_result(None)


def _ending() -> RequestRefused:
    return RequestRefused(503, "This engine is being stopped.", "stopping")
