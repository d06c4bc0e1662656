"""Answering a request: through the queue to an engine, and back piece by piece.

The invariant: closing an answer early releases its places and stops the engine. A request is
retried, with another engine or the same one, only as long as no part of the answer has arrived.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

from openai.types import CreateEmbeddingResponse

from tasks.core.serving.gateway.api_error import ApiError, FastChatCode
from tasks.core.serving.gateway.clients import Client
from tasks.core.serving.gateway.engine_client import (
    AnswerPiece,
    EngineBusy,
    EngineClient,
    EngineLost,
    EngineTimeout,
    Usage,
)
from tasks.core.serving.gateway.engine_requests import (
    AnswerLimits,
    bodies_for,
    embedding_body,
    require_build,
    require_model,
)
from tasks.core.serving.gateway.merging import Event, merged
from tasks.core.serving.gateway.parts import Parts
from tasks.core.serving.gateway.request_trace import RequestTrace
from tasks.core.serving.gateway.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from tasks.core.serving.gateway.routing import LoadedRoute, Routing
from tasks.core.serving.gateway.upstreams import CountedUpstream

Body = dict[str, Any]

_ATTEMPTS = 2  # or as many as there are upstreams
_BUSY_S = 5
_BREATH_S = 0.25  # before a retry: a process that has just died is not back yet


class Answering:
    """Everything between a valid request and the pieces of its answer."""

    def __init__(self, parts: Parts) -> None:
        self._routing = parts.routing
        self._upstreams = parts.upstreams
        self._places = parts.places
        self._metrics = parts.metrics
        self._recent = parts.recent
        gateway = parts.settings.gateway
        self._limits = AnswerLimits(gateway.default_answer_tokens, gateway.max_answer_tokens)

    async def answers(
        self, request: ChatRequest | CompletionRequest, client: Client, trace: RequestTrace
    ) -> AsyncGenerator[Event, None]:
        """Yield the pieces of all answers as they arrive, each with its answer's number.

        Raises ApiError, before or after the first piece.
        """
        with client.one_request():
            limits = self._limits_of(client)
            asked = _RoutedBodies(
                self._routing,
                request.model,
                trace.build,
                lambda loaded: bodies_for(request, loaded, limits),
            )
            # Checked before queueing, so that a request that cannot be answered never waits.
            count = len((await asked.now())[1])
            async with self._places.taken(count):
                answers = [self._answer(asked, number, trace) for number in range(count)]
                async with aclosing(merged(answers)) as events:
                    async for event in events:
                        _note(trace, event)
                        yield event

    async def embeddings(
        self, request: EmbeddingRequest, client: Client, trace: RequestTrace
    ) -> CreateEmbeddingResponse:
        """Return the engine's answer. Raises ApiError."""

        async def make(loaded: LoadedRoute) -> list[Body]:
            return [await embedding_body(request, loaded)]

        with client.one_request():
            asked = _RoutedBodies(self._routing, request.model, trace.build, make)
            await asked.now()
            async with self._places.taken(1):
                return await self._embedded(asked, trace)

    async def _embedded(
        self, asked: "_RoutedBodies", trace: RequestTrace
    ) -> CreateEmbeddingResponse:
        tried: list[CountedUpstream] = []
        while True:
            loaded, bodies = await asked.now()
            upstream = self._choose(loaded, tried, trace)
            try:
                with self._asked(upstream) as engine:
                    return await engine.embed(bodies[0], trace.request_id)
            except EngineLost as error:
                await self._before_next(error, loaded, tried)

    async def _answer(
        self, asked: "_RoutedBodies", number: int, trace: RequestTrace
    ) -> AsyncGenerator[AnswerPiece | Usage, None]:
        tried: list[CountedUpstream] = []
        while True:
            loaded, bodies = await asked.now()
            upstream = self._choose(loaded, tried, trace)
            begun = False
            try:
                once = self._once(upstream, loaded, bodies[number], trace)
                async with aclosing(once) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except EngineLost as error:
                await self._before_next(error, loaded, tried, begun=begun)

    async def _once(
        self, upstream: CountedUpstream, loaded: LoadedRoute, body: Body, trace: RequestTrace
    ) -> AsyncGenerator[AnswerPiece | Usage, None]:
        text: list[str] = []
        trace.answered_by = loaded.route.build
        with self._asked(upstream) as engine:
            async with aclosing(engine.complete(body, trace.request_id)) as pieces:
                async for piece in pieces:
                    upstream.pieces += 1
                    if isinstance(piece, AnswerPiece):
                        text.append(piece.text)
                        if piece.finish_reason is not None:
                            self._recent.add(
                                loaded.route.build, body, "".join(text), piece.finish_reason
                            )
                    yield piece

    @contextmanager
    def _asked(self, upstream: CountedUpstream) -> Iterator[EngineClient]:
        """Count a request, and an incident if it fails."""
        try:
            with upstream.one_request() as engine:
                yield engine
        except EngineBusy:
            raise
        except EngineLost:
            self._metrics.incident("engine-lost")
            raise
        except EngineTimeout:
            self._metrics.incident("engine-timeout")
            raise

    def _choose(
        self, loaded: LoadedRoute, tried: list[CountedUpstream], trace: RequestTrace
    ) -> CountedUpstream:
        is_worker = trace.build is not None  # the asking gateway distributes requests itself
        upstream = self._upstreams.choose(loaded.route, tried, own_only=is_worker)
        tried.append(upstream)
        trace.upstreams.append(f"{upstream.slot}/{upstream.name}")
        return upstream

    async def _before_next(
        self,
        error: EngineLost,
        loaded: LoadedRoute,
        tried: Sequence[CountedUpstream],
        *,
        begun: bool = False,
    ) -> None:
        """Return when the request may be retried. Raises ApiError if it may not."""
        if not begun and len(tried) < max(_ATTEMPTS, len(loaded.route.upstreams)):
            await asyncio.sleep(_BREATH_S)
            return
        if isinstance(error, EngineBusy):
            raise ApiError(
                FastChatCode.ENGINE_OVERLOADED, str(error), retry_after_s=_BUSY_S
            ) from error
        raise self._routing.nothing(str(error)) from error

    def _limits_of(self, client: Client) -> AnswerLimits:
        most = min(self._limits.max_tokens, client.answer_tokens or self._limits.max_tokens)
        return AnswerLimits(self._limits.default_tokens, most)


class _RoutedBodies:
    """The engine bodies of one request, made again when the route has changed."""

    def __init__(
        self,
        routing: Routing,
        model: str,
        build: str | None,
        make: Callable[[LoadedRoute], Awaitable[list[Body]]],
    ) -> None:
        self._routing = routing
        self._model = model
        self._build = build
        self._make = make
        self._made: tuple[LoadedRoute, list[Body]] | None = None

    async def now(self) -> tuple[LoadedRoute, list[Body]]:
        """Return the current route, and a body for each answer. Raises ApiError.

        Until the next `await` the route cannot change.
        """
        while self._made is None or self._made[0] is not self._routing.current():
            loaded = self._routing.current()
            require_model(self._model, loaded.route)
            require_build(self._build, loaded.route)
            self._made = loaded, await self._make(loaded)
        return self._made


def _note(trace: RequestTrace, event: Event) -> None:
    piece = event[1]
    if isinstance(piece, Usage):
        trace.prompt_tokens += piece.prompt_tokens
        trace.answer_tokens += piece.completion_tokens
    else:
        trace.first_token()
