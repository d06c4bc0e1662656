"""The public API: the paths and their handlers."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, Protocol

from openai.types import CompletionUsage, Model
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks.core.serving.gateway import chat_shape, completion_shape
from tasks.core.serving.gateway.answering import Answering
from tasks.core.serving.gateway.api_error import ApiError, FastChatCode
from tasks.core.serving.gateway.assembling import AssembledAnswer, UsageCount, assembled
from tasks.core.serving.gateway.attending import EventStream, attended
from tasks.core.serving.gateway.body import Bodies
from tasks.core.serving.gateway.clients import client_of
from tasks.core.serving.gateway.collected_paths import CollectedPaths
from tasks.core.serving.gateway.consent import CONSENT_HEADER, consents, require_keepable
from tasks.core.serving.gateway.engine_requests import require_build, require_model
from tasks.core.serving.gateway.keys import Keys
from tasks.core.serving.gateway.merging import Event
from tasks.core.serving.gateway.middleware import GatewayMiddleware
from tasks.core.serving.gateway.openapi import document
from tasks.core.serving.gateway.parts import Parts
from tasks.core.serving.gateway.request_body import read_request
from tasks.core.serving.gateway.request_trace import trace_of
from tasks.core.serving.gateway.requests import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    TokenCheckRequest,
)
from tasks.core.serving.gateway.review_api import ReviewApi
from tasks.core.serving.gateway.routing import LoadedRoute
from tasks.core.serving.gateway.streaming import Chunks, streamed


class _Whole(Protocol):
    def __call__(
        self, model: str, answers: list[AssembledAnswer], usage: CompletionUsage, /
    ) -> bytes: ...


class _Chunks(Protocol):
    def __call__(self, model: str, /) -> Chunks: ...


class Api:
    """The paths. Every handler raises ApiError or ClientGone."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._answering = Answering(parts)
        self._routing = parts.routing
        self._keeping = parts.keeping
        self._collected = CollectedPaths(parts)
        self._bodies = Bodies(parts.settings)
        self._client_s = parts.settings.client_s
        self._reviews = ReviewApi(parts.settings)

    def app(self, keys: Keys) -> Starlette:
        """Return the application for clients with these keys.

        Without allowed origins no web page gets an answer.
        """
        origins = self._parts.settings.gateway.allowed_origins
        front = Middleware(
            GatewayMiddleware, keys, self._parts.metrics, origins, self._parts.ending
        )
        cors = Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "X-Request-ID", CONSENT_HEADER),
            expose_headers=("X-Request-ID", "Retry-After"),
        )
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/ready", self.ready),
                Route("/metrics", self.metrics),
                Route("/openapi.json", self.openapi),
                Route("/v1/models", self.models),
                Route("/v1/models/{model}", self.model),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.completions, methods=["POST"]),
                Route("/v1/embeddings", self.embeddings, methods=["POST"]),
                Route("/v1/reviews", self._reviews.answered, methods=["GET", "POST"]),
                Route("/v1/token_check", self.token_check, methods=["POST"]),
                Route("/api/v1/token_check", self.token_check, methods=["POST"]),
                *self._collected.routes(),
            ],
            middleware=[cors, front] if origins else [front],
            exception_handlers={ApiError: _refused, HTTPException: _no_such_path},
        )

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        unless_said = {"store": True} if consents(request.headers) else {}
        asked = read_request(ChatRequest, await self._bodies.of(request), **unless_said)
        events = self._events(request, asked)
        answer_id = chat_shape.new_id()
        if asked.store:
            require_keepable(asked, collects=self._keeping.collects)
            trace, client = trace_of(request), client_of(request).name
            events = self._keeping.kept(events, asked, answer_id, trace, client)
        whole = partial(chat_shape.whole, answer_id=answer_id)
        chunks = partial(chat_shape.ChatChunks, answer_id=answer_id)
        return await self._answered(request, asked, events, whole, chunks)

    async def completions(self, request: Request) -> Response:
        """Continue a text, or token ids."""
        asked = read_request(CompletionRequest, await self._bodies.of(request))
        shape = completion_shape
        events = self._events(request, asked)
        return await self._answered(request, asked, events, shape.whole, shape.CompletionChunks)

    async def embeddings(self, request: Request) -> Response:
        """Return the embeddings of texts."""
        asked = read_request(EmbeddingRequest, await self._bodies.of(request))
        work = self._answering.embeddings(asked, client_of(request), trace_of(request))
        found = await attended(request.receive, work)
        body = completion_shape.embeddings_body(asked.model, found, asked.encoding_format)
        return Response(body, media_type="application/json")

    async def token_check(self, request: Request) -> Response:
        """Return the length of each text, and whether its answer fits; fields as in FastChat."""
        asked = read_request(TokenCheckRequest, await self._bodies.of(request))
        loaded = self._routing.current()
        checked = []
        for item in asked.prompts:
            require_model(item.model, loaded.route)
            tokens = len(await loaded.prompts.ids(item.prompt))
            context = loaded.prompts.context_tokens
            fits = tokens + item.max_tokens <= context
            checked.append({"fits": fits, "tokenCount": tokens, "contextLength": context})
        return JSONResponse({"prompts": checked})

    async def models(self, _request: Request) -> Response:
        """List the model that is served."""
        return JSONResponse({"object": "list", "data": [_model(self._routing.current())]})

    async def model(self, request: Request) -> Response:
        """Return the model of this name, if it is served."""
        loaded = self._routing.current()
        require_model(request.path_params["model"], loaded.route)
        return JSONResponse(_model(loaded))

    async def health(self, _request: Request) -> Response:
        """Report that the process is alive."""
        return JSONResponse({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """Report whether there is a route and an engine that answers."""
        route, build = self._routing.current().route, trace_of(request).build
        require_build(build, route)
        asked = self._parts.upstreams.of(route, own_only=build is not None)
        if not any(await asyncio.gather(*(one.client.ready() for one in asked))):
            raise self._routing.nothing("No engine answers.")
        return JSONResponse({"status": "ready"})

    async def metrics(self, _request: Request) -> Response:
        """Return the counters."""
        return Response(self._parts.metrics.text(), media_type="text/plain; version=0.0.4")

    async def openapi(self, _request: Request) -> Response:
        """Return the description of this API."""
        return JSONResponse(document())

    def _events(
        self, request: Request, asked: ChatRequest | CompletionRequest
    ) -> AsyncGenerator[Event, None]:
        return self._answering.answers(asked, client_of(request), trace_of(request))

    async def _answered(
        self,
        request: Request,
        asked: ChatRequest | CompletionRequest,
        events: AsyncGenerator[Event, None],
        whole: _Whole,
        chunks: _Chunks,
    ) -> Response:
        if not asked.stream:
            answers, usage = await attended(request.receive, assembled(events, asked.n))
            return Response(whole(asked.model, answers, usage), media_type="application/json")
        # An error before the first piece still gets its own status.
        first = await attended(request.receive, _first(events))
        stream = streamed(
            first,
            events,
            chunks(asked.model),
            answers=asked.n,
            counted=UsageCount(asked.n),
            include_usage=asked.stream_options.include_usage,
        )
        return EventStream(stream, events, self._client_s)


async def _first(events: Any) -> Any:
    return await anext(events)


def _model(loaded: LoadedRoute) -> dict[str, Any]:
    """Return OpenAI's object with FastChat's additional fields, and what serves it."""
    route = loaded.route
    name = route.model_name
    model = Model(
        id=name,
        object="model",
        created=loaded.since,
        owned_by="kawan-usaha",
        root=name,
        parent=None,
        permission=[],
        build=route.build,
        template=route.template,
        engine=route.engine,
    )
    shape: dict[str, Any] = model.model_dump(exclude_unset=True)
    return shape


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return error.response()


async def _no_such_path(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"{request.method} {request.url.path} is not part of this API."
    code = FastChatCode.VALIDATION_TYPE_ERROR
    response = ApiError(code, message, status=status, error_code="not_found").response()
    response.headers.update(getattr(error, "headers", None) or {})  # the allowed methods
    return response
