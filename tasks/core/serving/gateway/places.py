"""Limiting how many answers are computed at once, with a queue for the others.

The invariant: first come, first served. A request that needs several places (`n`, or several
prompts) gets all of them at once, and nothing overtakes it meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tasks.core.serving.gateway.api_error import ApiError, FastChatCode

_RETRY_AFTER_S = 5


@dataclass(eq=False)
class _Waiter:
    count: int
    turn: asyncio.Future[None] = field(default_factory=asyncio.Future)


class GatewayPlaces:
    """A number of places, with a bounded queue in front."""

    def __init__(self, max_running: int, max_queued: int) -> None:
        self._max_running = max_running
        self._max_queued = max_queued
        self._line: deque[_Waiter] = deque()
        self.running = 0

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._line)

    @asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[None]:
        """Hold count places during the block. Raises ApiError if the queue is full."""
        await self._take(count)
        try:
            yield
        finally:
            self.running -= count
            self._call_next()

    async def _take(self, count: int) -> None:
        if count > self._max_running:
            raise ApiError(
                FastChatCode.PARAM_OUT_OF_RANGE,
                f"{count} answers in one request; at most {self._max_running} run at once.",
                param="n",
            )
        if not self._line and self.running + count <= self._max_running:
            self.running += count
            return
        if len(self._line) >= self._max_queued:
            raise ApiError(
                FastChatCode.ENGINE_OVERLOADED,
                f"{self.running} answers are being computed and {len(self._line)} requests wait. "
                "Try again later.",
                retry_after_s=_RETRY_AFTER_S,
            )
        await self._wait(_Waiter(count))

    async def _wait(self, waiter: _Waiter) -> None:
        self._line.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if not waiter.turn.cancelled():  # admitted at the moment when the client disconnected
                self.running -= waiter.count
            elif waiter in self._line:
                self._line.remove(waiter)
            self._call_next()
            raise

    def _call_next(self) -> None:
        while self._line and self.running + self._line[0].count <= self._max_running:
            waiter = self._line.popleft()
            if not waiter.turn.cancelled():
                self.running += waiter.count
                waiter.turn.set_result(None)
