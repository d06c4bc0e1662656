"""A gate inside vLLM's server: no client gets an answer before the process has proven its model.

vLLM imports it in its own environment (option `middleware`), from this directory alone, so it
imports nothing of this project. The invariant: every process starts with a closed gate, also when
supervisord has restarted it, and only the prover opens it, after the proof.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

PROVER = "kawan-usaha-prover"
"""The bearer token of the prover. Not a secret: no client's token ever reaches an engine."""
PROVEN_ROUTE = "/kawan_usaha/proven"
MIDDLEWARE = "kawan_usaha_gate.ProofGate"
"""Its name for vLLM, which finds it on PYTHONPATH."""

_OPENED = b"{}"
_TOO_EARLY = b'{"error": {"message": "It has not proven its edit yet.", "type": "too_early"}}'

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Scope]]
_Send = Callable[[_Scope], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


class ProofGate:
    """An ASGI middleware."""

    def __init__(self, app: _App) -> None:
        self._app = app
        self._proven = False

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Pass on requests that may be answered."""
        if scope["type"] == "http":
            proves = (b"authorization", b"Bearer " + PROVER.encode()) in map(
                tuple, scope["headers"]
            )
            if proves and scope["path"] == PROVEN_ROUTE:
                self._proven = True
                await _reply(send, 200, _OPENED)
                return
            if not (proves or self._proven):
                await _reply(send, 425, _TOO_EARLY)
                return
        await self._app(scope, receive, send)


async def _reply(send: _Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
