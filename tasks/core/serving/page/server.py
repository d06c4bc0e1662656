"""The process of the page: one socket, one application, until it is stopped."""

import socket

import uvicorn

from tasks.core.process.ports import bound_socket, socket_url
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
        say(socket_url(bound))
        server.run(sockets=[bound])


def _bound(settings: PageSettings) -> socket.socket:
    bound = bound_socket(
        settings.host,
        settings.port,
        what="The page cannot listen at its address.",
        next_step="Choose another one with --port; 0 takes any free one.",
    )
    bound.listen()  # before its address is printed, so that connections wait for gradio
    return bound
