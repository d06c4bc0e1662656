"""The HTTP side of the engine protocol (protocol.md), over any Generator.

    POST /v1/completions        an answer as server-sent events
    POST /v1/embeddings
    GET  /health                200 while the generator works and the process is not stopping
    GET  /kawan_usaha/report    the report on the loaded model

The invariants: an answer ends with [DONE], with an error event, or when its client disconnects; a
client that disconnects frees its place within a token, also while it waits.
"""

import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from tasks.core.serving.engines.completion import DONE, AnswerChunks
from tasks.core.serving.engines.generator import Generator
from tasks.core.serving.engines.hang_up import while_connected
from tasks.core.serving.engines.places import EnginePlaces
from tasks.core.serving.engines.request import (
    Completion,
    Embeddings,
    ModelLimits,
    RequestRefused,
    read_completion,
    read_embeddings,
)
from tasks.core.serving.engines.text import TextDecoder
from tasks.core.serving.proof.readiness import REPORT_ROUTE, EngineReport

_log = logging.getLogger(__name__)

_JSON = [(b"content-type", b"application/json")]
_EVENTS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]


@dataclass(frozen=True)
class EngineService:
    """The parts of one engine's server."""

    generator: Generator
    tokenizer: TextDecoder
    limits: ModelLimits
    places: EnginePlaces
    report: Callable[[], EngineReport]


def engine_app(served: EngineService) -> FastAPI:
    """Return the application of one engine process."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await request.body()
        return _Reply(lambda: _answered(served, read_completion(body, served.limits)), _EVENTS)

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        body = await request.body()
        return _Reply(lambda: _embedded(served, read_embeddings(body, served.limits)), _JSON)

    @app.get("/health")
    async def health() -> Response:
        failure = served.generator.failure()
        if served.places.closed or failure is not None:
            return Response(failure or "being stopped", status_code=503)
        return Response("ok")

    @app.get(REPORT_ROUTE)
    async def report() -> EngineReport:
        return served.report()

    return app


async def _answered(served: EngineService, wanted: Completion) -> AsyncGenerator[bytes, None]:
    """Yield the events of an answer."""
    generator, places = served.generator, served.places
    generator.check(wanted)
    async with places.place(generator.cost(wanted)):
        prompt_logprobs = None
        if wanted.prompt_logprobs is not None:
            prompt_logprobs = await generator.prompt_logprobs(wanted.prompt)
        answer = AnswerChunks(wanted, served.tokenizer, generator.end_tokens)
        async with aclosing(generator.generate(wanted)) as tokens:
            async for token in tokens:
                event = answer.add(token, prompt_logprobs=prompt_logprobs)
                prompt_logprobs = None
                if event is not None:
                    yield event
                if answer.finish_reason is not None:
                    break
                if places.closed:
                    raise RequestRefused(503, "This engine is being stopped.", "stopping")
    if answer.finish_reason is None:
        raise RuntimeError("the model ended its answer without a reason")
    yield answer.usage()
    yield DONE


async def _embedded(served: EngineService, wanted: Embeddings) -> AsyncGenerator[bytes, None]:
    """Yield the one body with the embeddings."""
    async with served.places.place(1):
        vectors = await served.generator.embed(wanted.input)
    tokens = sum(map(len, wanted.input))
    answer = {
        "object": "list",
        "model": wanted.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    yield json.dumps(answer).encode()


class _Reply(Response):
    """Sends what a generator yields as it comes, and closes it when the client disconnects.

    The status is decided with the first piece: an error before it has its own status, one after it
    is sent as an error event.
    """

    def __init__(
        self,
        pieces: Callable[[], AsyncGenerator[bytes, None]],
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        super().__init__()
        self._pieces = pieces
        self._content = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await while_connected(receive, self._sent(send))

    async def _sent(self, send: Send) -> None:
        started = False
        try:
            async with aclosing(self._pieces()) as pieces:
                async for piece in pieces:
                    if not started:
                        await _start(send, 200, self._content)
                        started = True
                    await _body(send, piece, more=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            refusal = _refusal(error)
            if started:
                await _body(send, b"data: " + refusal.as_json() + b"\n\n", more=True)
            else:
                await _start(send, refusal.status, _JSON)
                await _body(send, refusal.as_json(), more=True)
        await _body(send, b"", more=False)


def _refusal(error: Exception) -> RequestRefused:
    if isinstance(error, RequestRefused):
        return error
    _log.error("a request failed", exc_info=error)
    return RequestRefused(500, f"{type(error).__name__}: {error}", "internal_error")


async def _start(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    if status in (429, 503):
        headers = [*headers, (b"retry-after", b"5")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _body(send: Send, piece: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": more})
