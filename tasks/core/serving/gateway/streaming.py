"""Streaming the pieces of answers as server-sent events."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from openai.types import CompletionUsage
from pydantic_core import to_json

from tasks.core.serving.gateway.api_error import ApiError, FastChatCode
from tasks.core.serving.gateway.assembling import UsageCount
from tasks.core.serving.gateway.engine_client import AnswerPiece, Usage
from tasks.core.serving.gateway.merging import Event

_LOG = logging.getLogger(__name__)


class Chunks(Protocol):
    """How one API formats pieces."""

    def opening(self, answers: int, /) -> list[dict[str, Any]]:
        """Return the chunks before the first piece."""

    def of(self, number: int, piece: AnswerPiece) -> list[dict[str, Any]]:
        """Return the chunks of a piece."""

    def usage(self, usage: CompletionUsage) -> dict[str, Any]:
        """Return the chunk with the usage."""


async def streamed(
    first: Event,
    rest: AsyncGenerator[Event, None],
    chunks: Chunks,
    *,
    answers: int,
    counted: UsageCount,
    include_usage: bool,
) -> AsyncGenerator[bytes, None]:
    """Yield the events of a stream whose first piece has arrived.

    An error can no longer have its own status: it becomes an event, and the stream ends.
    """
    async with aclosing(rest):
        for chunk in chunks.opening(answers):
            yield _event(chunk)
        try:
            async with aclosing(_from(first, rest)) as events:
                async for number, piece in events:
                    if isinstance(piece, Usage):
                        counted.add(number, piece)
                        continue
                    for chunk in chunks.of(number, piece):
                        yield _event(chunk)
            if include_usage:
                yield _event(chunks.usage(counted.usage()))
        except ApiError as error:
            yield error.event()
        except Exception:  # noqa: BLE001 - a fault of ours must not look like a whole answer
            _LOG.exception("a stream was cut off")
            yield ApiError(FastChatCode.INTERNAL_ERROR, "The gateway failed.").event()
        yield b"data: [DONE]\n\n"


async def _from(first: Event, rest: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    yield first
    async for event in rest:
        yield event


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + to_json(chunk) + b"\n\n"
