"""Work for a client that is cancelled when the client disconnects, streamed or not."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Result = TypeVar("Result")


class ClientGone(Exception):
    """The client has closed its connection, so nobody reads the answer."""


async def attended(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of the work. If the client disconnects, cancel it and raise ClientGone.

    receive is the request's own, after its body has been read.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


class EventStream(Response):
    """Server-sent events, closed with their source at the end, or if the client leaves or stalls.

    The source is closed here too, because a generator over it that never started would not.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        source: AsyncGenerator[Any, None],
        client_s: float,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self._events = events
        self._source = source
        self._client_s = client_s
        # Otherwise nginx buffers the pieces.
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    def init_headers(self, headers: Any = None) -> None:
        """Set the headers, without a length."""
        super().init_headers(headers)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events. Raises ClientGone."""
        async with aclosing(self._source), aclosing(self._events):
            await attended(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        try:
            async for event in self._events:
                async with asyncio.timeout(self._client_s):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        except TimeoutError:  # it would keep its place in the engine
            raise ClientGone from None
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
