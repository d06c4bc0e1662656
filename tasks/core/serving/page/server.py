"""The process of the page: one socket, one application, until it is told to end."""

import socket

import uvicorn

from tasks.core.errors import PortTaken
from tasks.core.process.said import say
from tasks.core.serving.page.app import page_app
from tasks.core.serving.page.settings import PageSettings

_SHUTDOWN_S = 3
_CONNECTIONS = 1000


def serve(settings: PageSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises PortTaken, and what `page_app` raises."""
    with _bound(settings) as bound:
        server = uvicorn.Server(
            uvicorn.Config(
                page_app(settings),
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                limit_concurrency=_CONNECTIONS,
                # A browser keeps a stream open for as long as it shows the page.
                timeout_graceful_shutdown=_SHUTDOWN_S,
            )
        )
        say(address(bound))
        server.run(sockets=[bound])


def address(bound: socket.socket) -> str:
    """Return where this machine's browser finds the page."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bound(settings: PageSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
        bound.listen()
    except OSError as error:
        bound.close()
        raise PortTaken(
            "The page cannot listen at its address.",
            where=f"{settings.host} port {settings.port}",
            found=error.strerror,
            next_step="Name another one with --port; 0 takes any that is free.",
        ) from error
    return bound
