"""The embedded Hub as a process of its own or a thread: build the app, bind a port, serve.

The invariants: it listens on loopback only, because its tokens travel unencrypted; one root has
one server at a time; its address is announced only once connections are accepted.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from time import sleep

import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from tasks.core.demo.hub import changes, contents, listing
from tasks.core.demo.hub.access import Tokens, load_tokens
from tasks.core.demo.hub.answers import HubRefusal, refusal_response
from tasks.core.demo.hub.blobs import BlobStore
from tasks.core.demo.hub.repositories import RepositoryStore
from tasks.core.demo.hub.state import Hub
from tasks.core.errors import LockBusy, UsageError
from tasks.core.files.durable import write_atomically
from tasks.core.files.locks import locked
from tasks.core.process.ports import bound_socket, socket_url

_GRACE_S = 2


@dataclass(frozen=True)
class HubAddress:
    """Where an embedded Hub answers, and the first token that may write to it."""

    url: str
    token: str = field(repr=False)


def create_app(root: Path, tokens: Tokens) -> ASGIApp:
    """Return the server of the Hub that is stored under root."""
    # `include_router` would make each route anew, with the first request.
    routes = [route for part in (listing, changes, contents) for route in part.router.routes]
    app = FastAPI(title="Embedded Hub", openapi_url=None, routes=routes)
    app.state.hub = Hub(RepositoryStore(root), BlobStore(root), tokens)
    app.add_exception_handler(HubRefusal, refusal_response)
    # A page of another site in the user's browser must not reach this server by DNS rebinding.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    return app


def serve_hub(root: Path, *, host: str, port: int, ready_file: Path | None) -> None:
    """Serve the Hub under root until SIGTERM or SIGINT; ready_file gets its address.

    Raises UsageError for an address that is not loopback or a root that is being served, and
    PortTaken.
    """
    with _owned(root), _listener(host, port) as listener:
        app = create_app(root, load_tokens(root))
        if ready_file is not None:
            write_atomically(ready_file, socket_url(listener) + "\n")
        _server(app).run(sockets=[listener])


@contextmanager
def running_hub(
    root: Path,
    *,
    tokens: Tokens | None = None,
    middleware: Callable[[ASGIApp], ASGIApp] | None = None,
) -> Iterator[HubAddress]:
    """Yield the address of a Hub that runs in a thread of this process until the block ends.

    middleware wraps the whole server, to observe or change requests and answers.
    """
    with _owned(root), _listener("127.0.0.1", 0) as listener:
        tokens = load_tokens(root) if tokens is None else tokens
        app = create_app(root, tokens)
        server = _server(middleware(app) if middleware else app)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="embedded-hub")
        thread.start()
        try:
            while not server.started and thread.is_alive():
                sleep(0.005)
            yield HubAddress(socket_url(listener), next(iter(tokens), ""))
        finally:
            server.should_exit = True
            thread.join()


def _server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_config=None,  # uvicorn's own would close every log handler of this process
        log_level="critical",  # a refused request is the client's to report
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return uvicorn.Server(config)


@contextmanager
def _owned(root: Path) -> Iterator[None]:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(locked(root / ".lock", "embedded Hub"))
        except LockBusy as busy:
            raise UsageError(
                "Another server serves this directory.",
                where=root,
                found=busy.found,
                next_step="Use the Hub that runs, wait until its run is done, or name another "
                "directory.",
            ) from busy
        yield


def _listener(host: str, port: int) -> socket.socket:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise UsageError(
            "The embedded Hub listens on this machine only.",
            expected="127.0.0.1, ::1 or localhost",
            found=host,
            next_step="Leave the address out; to share a model, publish to huggingface.co.",
        )
    listener = bound_socket(
        str(address),
        port,
        what="The embedded Hub's port is in use.",
        next_step="Choose another port, or 0 for any free one.",
    )
    listener.listen(128)
    return listener
