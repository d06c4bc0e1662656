"""Work for a client that is cancelled when the client disconnects."""

import asyncio
from collections.abc import Coroutine

from starlette.types import Receive


async def while_connected(receive: Receive, work: Coroutine[None, None, None]) -> None:
    """Return when work has ended, or when it was cancelled because the client disconnected.

    receive: ASGI's, of a request whose body has been read. Raises what work raises.
    """
    task = asyncio.create_task(work)
    left = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        task.cancel()  # no effect on a task that has ended
        await asyncio.wait({task, left})
    if not task.cancelled():
        task.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
