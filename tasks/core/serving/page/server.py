"""The process of the page: one socket, one application, until it is stopped."""

import socket

import uvicorn

from tasks.core.process.ports import bound_socket, socket_url
from tasks.core.process.quick_start import collector_at_rest
from tasks.core.process.said import say
from tasks.core.serving.page.examples import read_examples
from tasks.core.serving.page.settings import PageSettings

_SHUTDOWN_S = 3
_CONNECTIONS = 1000


def serve(settings: PageSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises PortTaken, and UsageError for unreadable examples."""
    # What is wrong is told before gradio is imported, which takes seconds.
    examples = read_examples(settings.prompts)
    with _bound(settings) as bound:
        with collector_at_rest():
            from tasks.core.serving.page.app import page_app

        bound.listen()  # before its address is printed, so that connections wait for gradio
        server = uvicorn.Server(
            uvicorn.Config(
                page_app(settings, examples),
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
    return bound_socket(
        settings.host,
        settings.port,
        what="The page cannot listen at its address.",
        next_step="Choose another one with --port; 0 takes any free one.",
    )
