"""The middleware around the API: request id, origin, key; then log line and counters.

The invariant: whatever happens behind it, a client gets a response in the shape of the API, and the
log gets one line without any text that a person wrote.
"""

import asyncio
import logging
import re
import uuid
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.core.errors import UsageError
from tasks.core.serving.gateway.api_error import ApiError, FastChatCode
from tasks.core.serving.gateway.attending import ClientGone
from tasks.core.serving.gateway.clients import Client, put_client
from tasks.core.serving.gateway.keys import Keys
from tasks.core.serving.gateway.metrics import Metrics
from tasks.core.serving.gateway.request_trace import RequestTrace, put_trace
from tasks.core.serving.state.routes import BUILD_HEADER

_LOG = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_CLIENT_LEFT = 499  # nginx's number for it

OPEN = ("/health", "/ready")
"""What a load balancer asks, without a key. The answer is only yes or no."""

PATHS = (
    *OPEN,
    "/metrics",
    "/openapi.json",
    "/v1/models",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/token_check",
    "/v1/reviews",
    "/api/v1/token_check",
    "/v1/feedback",
    "/v1/forget",
)


class GatewayMiddleware:
    """The middleware around the API."""

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        metrics: Metrics,
        allowed_origins: Collection[str],
        ending: asyncio.Event,
    ) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._allowed_origins = frozenset(allowed_origins)
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        path = scope["path"] if scope["path"] in PATHS else "other"
        request_id = _request_id(headers.get("x-request-id"))
        trace = RequestTrace(request_id, path, headers.get(BUILD_HEADER))
        put_trace(scope, trace)
        noting = _noting(trace, send, self._ending)
        try:
            await self._passed_on(scope, receive, noting, headers, trace)
        except ClientGone:
            trace.status, trace.outcome = _CLIENT_LEFT, "client-left"
        except ApiError as error:
            await error.response()(scope, receive, noting)
        except Exception:  # noqa: BLE001 - logged, and a client must get an answer
            _LOG.exception("internal error of the gateway, id=%s", trace.request_id)
            if trace.status == 0:
                internal = ApiError(FastChatCode.INTERNAL_ERROR, "The gateway failed.")
                await internal.response()(scope, receive, noting)
        finally:
            self._metrics.ended(trace)
            _LOG.info("%s %s", scope["method"], trace.line())

    async def _passed_on(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, trace: RequestTrace
    ) -> None:
        self._refuse_foreign_page(headers.get("origin"))
        if scope["path"] not in OPEN:
            client = self._client(headers.get("authorization"))
            trace.key_name = client.name
            put_client(scope, client)
        await self._app(scope, receive, send)

    def _client(self, authorization: str | None) -> Client:
        try:
            self._keys.read_if_changed()
        except UsageError as error:
            _LOG.error("the keys were not read again: %s", error)
        return self._keys.client(authorization)

    def _refuse_foreign_page(self, origin: str | None) -> None:
        """Raise ApiError for a web page that is not allowed to send requests.

        A browser would send them anyway and only hide the response: any page could keep the engine
        of a developer's machine busy.
        """
        allowed = self._allowed_origins
        if origin is not None and "*" not in allowed and origin not in allowed:
            raise ApiError(
                FastChatCode.NO_PERMISSION,
                "Pages of this origin are not allowed; see deploy.gateway.allowed_origins.",
            )


def _noting(trace: RequestTrace, send: Send, ending: asyncio.Event) -> Send:
    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            trace.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = trace.request_id
            if ending.is_set():  # or the next request might come just as this process ends
                headers["Connection"] = "close"
        await send(message)

    return noting


def _request_id(asked: str | None) -> str:
    if asked is not None and _REQUEST_ID.fullmatch(asked):
        return asked
    return uuid.uuid4().hex
