"""The middleware in front of gradio, which checks path, origin and length of every request.

gradio answers many paths that this page does not need: uploads, files, proxies, an API and its
description. The invariant: paths that are not listed here do not exist, and no page of another site
can send requests or embed this one.
"""

from collections.abc import Iterable

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.core.serving.page.index_page import indonesian
from tasks.core.serving.page.settings import PageSettings

_SHOWN = ("/config", "/theme.css", "/favicon.ico", "/health")
_FILES = ("/assets/", "/static/", "/gradio_api/heartbeat/")
_READ = ("/gradio_api/queue/data", "/gradio_api/startup-events")
_ASKED = ("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset")

_TOO_LONG = "Permintaan terlalu panjang."
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

_SAFETY = {
    # An image or link in an answer would reveal its reader to a server. gradio has inline scripts.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageMiddleware:
    """The middleware around gradio."""

    def __init__(self, app: ASGIApp, settings: PageSettings) -> None:
        self._app = app
        self._hosts = None if settings.is_public else _LOOPBACK
        self._max_body_bytes = settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _with_headers(send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, send)
        elif scope["path"] == "/health":
            await PlainTextResponse("ok")(scope, receive, send)
        elif scope["path"] == "/":
            await self._index(scope, receive, send)
        else:
            await self._app(scope, _limited(receive, self._max_body_bytes), send)

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        host = headers.get("host", "")
        if self._hosts is not None and host.rpartition(":")[0] not in self._hosts:
            return _no(421, "Halaman ini hanya untuk komputer ini.")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return _no(403, "Halaman lain tidak boleh memakai halaman ini.")
        if not _is_there(scope["method"], scope["path"]):
            return _no(404, "Halaman ini tidak ada.")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body_bytes:
            return _no(413, _TOO_LONG)
        if scope["path"] == "/" and scope["query_string"]:  # ?view=... opens gradio's own pages
            return RedirectResponse("/", 303)
        return None

    async def _index(self, scope: Scope, receive: Receive, send: Send) -> None:
        plain = [each for each in scope["headers"] if each[0] != b"accept-encoding"]
        begun: list[Message] = []
        body = bytearray()

        async def gather(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.append(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                content = indonesian(bytes(body)) if body else b""
                if body:
                    MutableHeaders(scope=begun[0])["content-length"] = str(len(content))
                await send(begun[0])
                await send({"type": "http.response.body", "body": content})

        await self._app({**scope, "headers": plain}, receive, gather)


def _is_there(method: str, path: str) -> bool:
    if method in ("GET", "HEAD"):
        return path in ("/", *_SHOWN, *_READ) or _begins(path, _FILES)
    return method == "POST" and path in _ASKED


def _begins(path: str, prefixes: Iterable[str]) -> bool:
    return any(path.startswith(prefix) for prefix in prefixes)


def _limited(receive: Receive, max_bytes: int) -> Receive:
    """Limit the length of a body, which may come in pieces without a declared length."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > max_bytes:
            raise HTTPException(413, _TOO_LONG)  # FastAPI handles it while it reads the body
        return message

    return limited


def _with_headers(send: Send) -> Send:
    async def safe(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_SAFETY)
        await send(message)

    return safe


def _no(status: int, text: str) -> ASGIApp:
    return PlainTextResponse(text, status)
