"""The client of an engine, by the engine protocol (../engines/protocol.md).

The invariants: an answer that ends without an error is complete, its last piece has a
`finish_reason`; and when the caller closes it early, the connection is closed, by which the engine
learns that nobody is waiting.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from openai.types import CreateEmbeddingResponse
from openai.types.completion_choice import Logprobs
from pydantic_core import from_json

from tasks.core.serving.client.access import Access
from tasks.core.serving.gateway.api_error import ApiError, FastChatCode
from tasks.core.serving.state.routes import BUILD_HEADER, Upstream

_READY_S = 5.0
_ERROR_BYTES = 10_000


class EngineLost(Exception):
    """The engine is down, full, or was cut off; another one may answer."""


class EngineBusy(EngineLost):
    """The engine cannot accept more requests now."""


class EngineTimeout(ApiError):
    """The engine took too long. Not retried, since that may take as long again."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(
            FastChatCode.CONTROLLER_WORKER_TIMEOUT,
            f"The engine took more than {seconds:.0f} s to {what}.",
        )


@dataclass(frozen=True)
class EngineLimits:
    """How long an engine may take."""

    first_token_s: float
    between_tokens_s: float


@dataclass(frozen=True)
class AnswerPiece:
    """A new part of an answer. logprobs is OpenAI's object of the completion API."""

    text: str
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    prompt_logprobs: list[Any] | None = None


@dataclass(frozen=True)
class Usage:
    """How many tokens the engine read and generated."""

    prompt_tokens: int
    completion_tokens: int


class EngineClient:
    """Sends requests to one upstream. Raises EngineLost, or ApiError if a retry cannot help.

    Without `access` it is a local engine. With it, it is a gateway: each request names the build
    that must answer, which a worker that now serves another build refuses.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        upstream: Upstream,
        limits: EngineLimits,
        *,
        build: str,
        access: Access | None = None,
    ) -> None:
        self._http = http
        self._url = upstream.url.rstrip("/")
        self._limits = limits
        self._headers = {"Accept-Encoding": "identity"}
        self._ready = "/health"
        if access is not None:
            self._headers |= {"Authorization": f"Bearer {access.key}", BUILD_HEADER: build}
            self._ready = "/ready"  # a gateway's /health says nothing about its engine

    async def ready(self) -> bool:
        """Return whether it reports that it accepts requests."""
        try:
            answer = await self._http.get(
                self._url + self._ready, headers=self._headers, timeout=_READY_S
            )
        except httpx.HTTPError:
            return False
        return answer.is_success

    async def complete(
        self, body: Mapping[str, Any], request_id: str
    ) -> AsyncGenerator[AnswerPiece | Usage, None]:
        """Yield the answer as the engine sends it, then the usage."""
        finished = False
        async with aclosing(self._events(body, request_id)) as events:
            async for event in events:
                for said in _said(event):
                    finished = finished or getattr(said, "finish_reason", None) is not None
                    yield said
        if not finished:
            raise EngineLost("The engine stopped in the middle of its answer.")

    async def embed(self, body: Mapping[str, Any], request_id: str) -> CreateEmbeddingResponse:
        """Return OpenAI's answer with the embeddings."""
        request = self._request("/v1/embeddings", body, request_id)
        limit = asyncio.get_running_loop().time() + self._limits.first_token_s
        async with _in_time(limit, "the embeddings", self._limits.first_token_s):
            response = await self._send(request)
            try:
                return CreateEmbeddingResponse.model_validate_json(await response.aread())
            except (httpx.HTTPError, ValueError) as error:
                raise EngineLost(
                    f"The connection to the engine was lost: {_words(error)}"
                ) from error
            finally:
                await response.aclose()

    async def _events(
        self, body: Mapping[str, Any], request_id: str
    ) -> AsyncGenerator[dict[str, Any], None]:
        request = self._request("/v1/completions", body, request_id)
        limit = asyncio.get_running_loop().time() + self._limits.first_token_s
        response = None
        try:
            async with _in_time(limit, "the first token", self._limits.first_token_s):
                response = await self._send(request)
            if response.headers.get("content-type", "").startswith("application/json"):
                async with _in_time(limit, "the answer", self._limits.first_token_s):
                    yield _event(await response.aread())
                return
            async with aclosing(_data(response)) as data:
                while True:
                    async with _in_time(limit, "its next token", self._limits.between_tokens_s):
                        line = await anext(data, None)
                    if line is None or line == b"[DONE]":
                        return
                    yield _event(line)
                    limit = asyncio.get_running_loop().time() + self._limits.between_tokens_s
        except httpx.HTTPError as error:
            raise EngineLost(f"The connection to the engine was lost: {_words(error)}") from error
        finally:
            if response is not None:
                await response.aclose()

    def _request(self, path: str, body: Mapping[str, Any], request_id: str) -> httpx.Request:
        headers = self._headers | {"X-Request-ID": request_id}
        return self._http.build_request("POST", self._url + path, json=body, headers=headers)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise EngineLost(f"The engine does not answer: {_words(error)}") from error
        if response.is_success:
            return response
        try:
            raise _refusal(response.status_code, (await response.aread())[:_ERROR_BYTES])
        finally:
            await response.aclose()


@asynccontextmanager
async def _in_time(limit: float, what: str, seconds: float) -> AsyncIterator[None]:
    """Raise EngineTimeout if the block has not ended at limit, by the loop's clock."""
    try:
        async with asyncio.timeout_at(limit):
            yield
    except TimeoutError:
        raise EngineTimeout(what, seconds) from None


async def _data(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yield what follows `data:`. Not by httpx's lines, which also end at U+2028 within a text."""
    rest = b""
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _event(line: bytes) -> dict[str, Any]:
    try:
        event: dict[str, Any] = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise EngineLost(f"The engine sent invalid JSON: {error}") from error
    if not isinstance(event, dict):
        raise EngineLost("The engine sent something that is not an event.")
    if failure := event.get("error"):
        raise EngineLost(f"The engine failed: {_message(failure)}")
    return event


def _said(event: Mapping[str, Any]) -> list[AnswerPiece | Usage]:
    """Parse an event. Raises EngineLost for one of another shape.

    By hand for speed, since it is done for every token; a worker may be another machine.
    """
    try:
        said: list[AnswerPiece | Usage] = [_piece(choice) for choice in event.get("choices") or ()]
        if usage := event.get("usage"):
            said.append(Usage(int(usage["prompt_tokens"]), int(usage["completion_tokens"])))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise EngineLost("The engine sent an event of another shape.") from error
    return said


def _piece(choice: Mapping[str, Any]) -> AnswerPiece:
    text, reason = choice.get("text") or "", choice.get("finish_reason")
    logprobs, prompt_logprobs = choice.get("logprobs"), choice.get("prompt_logprobs")
    if not isinstance(text, str) or not isinstance(reason, str | None):
        raise TypeError(type(text).__name__)
    if logprobs is not None:
        Logprobs.model_validate(logprobs)
        len(logprobs["tokens"]) + len(logprobs["token_logprobs"])  # not null
    if not isinstance(prompt_logprobs, list | None):
        raise TypeError(type(prompt_logprobs).__name__)
    return AnswerPiece(text, reason, logprobs, prompt_logprobs)


def _refusal(status: int, body: bytes) -> Exception:
    """Return the exception for an error response: a fault of the request or of the engine."""
    code = None
    try:
        content = from_json(body)
        error, code = content.get("error", content), content.get("code")
        message = _message(error).strip() or f"status {status}"
    except (ValueError, AttributeError):
        error, message = {}, f"status {status}"
    if status in (401, 403):  # not the client's key, but this gateway's key for a worker
        return EngineLost("The engine does not accept the key of this gateway.")
    if status in (429, 503) and code != FastChatCode.CONTROLLER_NO_WORKER:
        return EngineBusy(f"The engine cannot accept more requests: {message}")
    if status in (400, 413, 422):
        param = error.get("param") if isinstance(error, Mapping) else None
        return ApiError(FastChatCode.PARAM_OUT_OF_RANGE, message, param=param)
    return EngineLost(f"The engine failed: {message}")


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
