"""The connections of the gateway to all engines, here and on other machines."""

import socket
from types import TracebackType
from typing import Self

import httpx

from tasks.core.serving.client.access import trusted

_CONNECT_S = 5.0
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A machine that lost its power or its network says nothing: its connections end after 25 s."""
_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in _KEEPALIVE.items()
        if hasattr(socket, name)
    ),
]


class Connections:
    """A pool for each certificate that is trusted; all are closed at the end of the block.

    How long a read may take is said at each read.
    """

    def __init__(self) -> None:
        self._pools: dict[str | None, httpx.AsyncClient] = {}

    def trusting(self, certificate: str | None) -> httpx.AsyncClient:
        """Return the connections to who shows this certificate, or a public one."""
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
        # Without the environment: a proxy must not get requests to this machine.
        trust_env=False,
        timeout=httpx.Timeout(None, connect=_CONNECT_S),
        transport=httpx.AsyncHTTPTransport(
            verify=trusted(certificate),
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            socket_options=_OPTIONS,
        ),
    )
