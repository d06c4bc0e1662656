"""One engine, asked over the engine protocol (../engines/protocol.md).

The invariant: an answer that ends without an error is whole, its last piece bears a
`finish_reason`; and when the caller closes it early, the connection is closed, which is how an
engine learns that nobody waits any longer.
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
    """The engine is not there, is full, or broke off; another one may answer."""


class EngineBusy(EngineLost):
    """The engine can take no more now."""


class EngineTimeout(ApiError):
    """The engine took too long. Not asked again: that may take as long once more."""

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
    """What is new of an answer. logprobs is OpenAI's object of the completion API."""

    text: str
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    prompt_logprobs: list[Any] | None = None


@dataclass(frozen=True)
class Usage:
    """How many tokens the engine read and wrote."""

    prompt_tokens: int
    completion_tokens: int


class EngineClient:
    """Asks one upstream. Every method raises EngineLost, or ApiError for what no retry helps.

    Without `access` it is an engine of this machine. With it, it is a gateway: each request names
    the build that must answer, which a worker that serves another one by now refuses.
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
            self._ready = "/ready"  # the /health of a gateway tells nothing of what is behind it

    async def ready(self) -> bool:
        """Return whether it says that it takes requests."""
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
        """Yield the answer as the engine writes it, then what it counted."""
        finished = False
        async with aclosing(self._events(body, request_id)) as events:
            async for event in events:
                for said in _said(event):
                    finished = finished or getattr(said, "finish_reason", None) is not None
                    yield said
        if not finished:
            raise EngineLost("The engine broke off in the middle of its answer.")

    async def embed(self, body: Mapping[str, Any], request_id: str) -> CreateEmbeddingResponse:
        """Return OpenAI's answer with the embeddings."""
        request = self._request("/v1/embeddings", body, request_id)
        limit = asyncio.get_running_loop().time() + self._limits.first_token_s
        async with _in_time(limit, "the embeddings", self._limits.first_token_s):
            response = await self._send(request)
            try:
                return CreateEmbeddingResponse.model_validate_json(await response.aread())
            except (httpx.HTTPError, ValueError) as error:
                raise EngineLost(f"The engine broke off: {_words(error)}") from error
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
            raise EngineLost(f"The engine broke off: {_words(error)}") from error
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
    """Raise EngineTimeout for a block that has not ended at limit, by the loop's clock."""
    try:
        async with asyncio.timeout_at(limit):
            yield
    except TimeoutError:
        raise EngineTimeout(what, seconds) from None


async def _data(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yield what stands behind `data:`. Not by httpx's lines, which end at U+2028 in a text too."""
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
        raise EngineLost(f"The engine wrote no JSON: {error}") from error
    if not isinstance(event, dict):
        raise EngineLost("The engine wrote something else than an event.")
    if failure := event.get("error"):
        raise EngineLost(f"The engine failed: {_message(failure)}")
    return event


def _said(event: Mapping[str, Any]) -> list[AnswerPiece | Usage]:
    """Return what an event says. Raises EngineLost for one of another shape.

    By hand: it is done for every token, and a worker may be another machine.
    """
    try:
        said: list[AnswerPiece | Usage] = [_piece(choice) for choice in event.get("choices") or ()]
        if usage := event.get("usage"):
            said.append(Usage(int(usage["prompt_tokens"]), int(usage["completion_tokens"])))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise EngineLost("The engine wrote an event of another shape.") from error
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
    """Return the error for an answer that is none: the request's fault, or the engine's."""
    code = None
    try:
        content = from_json(body)
        error, code = content.get("error", content), content.get("code")
        message = _message(error).strip() or f"status {status}"
    except (ValueError, AttributeError):
        error, message = {}, f"status {status}"
    if status in (401, 403):  # not the client's key: the one that this gateway has for a worker
        return EngineLost("The engine does not accept the key of this gateway.")
    if status in (429, 503) and code != FastChatCode.CONTROLLER_NO_WORKER:
        return EngineBusy(f"The engine can take no more: {message}")
    if status in (400, 413, 422):
        param = error.get("param") if isinstance(error, Mapping) else None
        return ApiError(FastChatCode.PARAM_OUT_OF_RANGE, message, param=param)
    return EngineLost(f"The engine failed: {message}")


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
