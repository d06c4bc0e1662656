"""The gateway's process: the public server and that of the control socket, in one event loop."""

import asyncio
import contextlib
import math
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from tasks.core.errors import KawanUsahaError, UsageError
from tasks.core.files.locks import locked
from tasks.core.process.descriptors import allow_many_descriptors
from tasks.core.serving.client.key_variables import API_KEYS_VARIABLE
from tasks.core.serving.gateway.api import Api
from tasks.core.serving.gateway.connections import Connections
from tasks.core.serving.gateway.control_api import control_api
from tasks.core.serving.gateway.keys import Keys
from tasks.core.serving.gateway.logs import LOG
from tasks.core.serving.gateway.parts import Parts
from tasks.core.serving.gateway.settings import GatewaySettings
from tasks.core.serving.gateway.sockets import control_socket, is_public, public_socket

_CONTROL_SHUTDOWN_S = 1
_LAST_REQUESTS_S = 2.0
"""How long clients may still send requests on open connections, which the answers then close."""


def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT; return when the answers in progress have ended.

    Raises KawanUsahaError when it cannot start.
    """
    allow_many_descriptors()
    keys = Keys(settings.gateway.keys_file)
    with ExitStack() as turn:
        if settings.lock is not None:
            turn.enter_context(locked(settings.lock, "gateway", wait_s=math.inf, say=LOG.debug))
        public = public_socket(settings)
        _require_keys(public, keys)
        control = control_socket(settings.control_socket)
        asyncio.run(_serve(settings, keys, public, control, turn.close))


def _require_keys(public: socket.socket, keys: Keys) -> None:
    if is_public(public) and not keys.needed:
        raise UsageError(
            "A gateway that other machines can reach needs API keys.",
            where=f"{public.getsockname()[0]} port {public.getsockname()[1]}",
            expected=f"deploy.gateway.keys_file, or {API_KEYS_VARIABLE}",
            found="neither",
            next_step="Provide a file of keys (docs/gateway.md), or listen on 127.0.0.1.",
        )


async def _serve(
    settings: GatewaySettings,
    keys: Keys,
    public: socket.socket,
    control: socket.socket,
    give_way: Callable[[], None],
) -> None:
    """Serve; give_way lets the standby gateway take over while the last answers end here."""
    async with Connections() as connections:
        parts = Parts.of(settings, keys, connections)
        try:
            await parts.routing.read_if_there()
        except KawanUsahaError as error:  # it answers 503 until there is a usable route
            LOG.error("no route: %s", error)
        api = _server(Api(parts).app(keys), settings.shutdown_s)
        asked = _server(control_api(parts), _CONTROL_SHUTDOWN_S)
        ends: list[asyncio.Task[None]] = []

        async def end() -> None:
            """Leave new connections to the standby gateway, and close these one by one."""
            parts.ending.set()
            asked.should_exit = True
            for listening in getattr(api, "servers", ()):
                listening.close()
            await asyncio.sleep(_LAST_REQUESTS_S)
            api.should_exit = True

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: ends.append(loop.create_task(end())))
        LOG.info("listens at %s", public.getsockname())
        aside = [
            loop.create_task(parts.upstreams.find_again()),
            loop.create_task(parts.keeping.tidy_now_and_then()),
        ]
        try:
            await asyncio.gather(
                api.serve([public]), _controlled(asked, control, settings.control_socket, give_way)
            )
        finally:
            for task in aside:
                task.cancel()
            await asyncio.to_thread(parts.keeping.close)


async def _controlled(
    server: "_Server", control: socket.socket, path: Path, give_way: Callable[[], None]
) -> None:
    """Serve the control socket, then leave its path and the lock to the next gateway."""
    try:
        await server.serve([control])
    finally:
        path.unlink(missing_ok=True)
        give_way()


class _Server(uvicorn.Server):
    """One of several servers in a process, which handles signals for all of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _server(app: ASGIApp, shutdown_s: int) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=shutdown_s,
        )
    )
