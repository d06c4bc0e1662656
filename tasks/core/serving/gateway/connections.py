"""The connections of the gateway to all engines, local and on other machines."""

import socket
from types import TracebackType
from typing import Self

import httpx

from tasks.core.serving.client.access import trusted

_CONNECT_S = 5.0
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A machine that lost power or network sends nothing: its connections end after 25 s."""
_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in _KEEPALIVE.items()
        if hasattr(socket, name)
    ),
]


class Connections:
    """A connection pool for each trusted certificate; all are closed at the end of the block.

    Each read sets its own timeout.
    """

    def __init__(self) -> None:
        self._pools: dict[str | None, httpx.AsyncClient] = {}

    def trusting(self, certificate: str | None) -> httpx.AsyncClient:
        """Return the pool for servers with this certificate, or with a public one."""
        if certificate not in self._pools:
            self._pools[certificate] = _pool(certificate)
        return self._pools[certificate]

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every pool."""
        for pool in self._pools.values():
            await pool.aclose()


def _pool(certificate: str | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        # Requests to this machine must not go to a proxy of the environment.
        trust_env=False,
        timeout=httpx.Timeout(None, connect=_CONNECT_S),
        transport=httpx.AsyncHTTPTransport(
            verify=trusted(certificate),
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            socket_options=_OPTIONS,
        ),
    )
