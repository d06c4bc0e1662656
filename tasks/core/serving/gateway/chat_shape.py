"""Responses of /v1/chat/completions, complete and as chunks.

The shapes are those of `openai.types`. They make one chunk per stream, which is then filled in:
2.3 microseconds per token instead of 7.8 (tests/benchmarks/bench_chunks.py). Old clients
(FastChat's) read the same fields.
"""

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat import ChatCompletionTokenLogprob as TokenLogprob
from openai.types.chat.chat_completion import Choice, ChoiceLogprobs
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from openai.types.chat.chat_completion_token_logprob import TopLogprob
from pydantic_core import to_json

from tasks.core.serving.gateway.assembling import AssembledAnswer
from tasks.core.serving.gateway.engine_client import AnswerPiece

_OWN_ID = re.compile(r"chatcmpl-[0-9a-f]{32}")


def whole(
    model: str, answers: Sequence[AssembledAnswer], usage: CompletionUsage, *, answer_id: str
) -> bytes:
    """Return the body of a response that is not streamed."""
    completion = ChatCompletion(
        id=answer_id,
        object="chat.completion",
        created=int(time.time()),
        model=model,
        choices=[
            Choice(
                index=index,
                finish_reason=answer.finish_reason,
                logprobs=_logprobs(answer.logprobs),
                message=ChatCompletionMessage(role="assistant", content=answer.text),
            )
            for index, answer in enumerate(answers)
        ],
        usage=usage,
    )
    body: bytes = to_json(completion.model_dump(exclude_unset=True))
    return body


class ChatChunks:
    """The chunks of one stream."""

    def __init__(self, model: str, *, answer_id: str) -> None:
        chunk = ChatCompletionChunk(
            id=answer_id,
            object="chat.completion.chunk",
            created=int(time.time()),
            model=model,
            choices=[ChunkChoice(index=0, delta=ChoiceDelta(), finish_reason=None)],
        )
        self._chunk: dict[str, Any] = chunk.model_dump(exclude_unset=True)
        self._choice: dict[str, Any] = self._chunk["choices"][0]

    def opening(self, answers: int) -> list[dict[str, Any]]:
        """Return a chunk for each answer with its role."""
        return [self._filled(n, {"role": "assistant", "content": ""}) for n in range(answers)]

    def of(self, number: int, piece: AnswerPiece) -> list[dict[str, Any]]:
        """Return the chunks of a piece; the end of an answer is a separate chunk without text."""
        chunks = []
        logprobs = _logprobs(piece.logprobs)
        if piece.text or logprobs is not None:
            chunk = self._filled(number, {"content": piece.text})
            if logprobs is not None:
                chunk["choices"][0]["logprobs"] = logprobs.model_dump()
            chunks.append(chunk)
        if piece.finish_reason is not None:
            chunks.append(self._filled(number, {}, piece.finish_reason))
        return chunks

    def usage(self, usage: CompletionUsage) -> dict[str, Any]:
        """Return the chunk that closes a stream with `include_usage`."""
        return {**self._chunk, "choices": [], "usage": usage.model_dump(exclude_unset=True)}

    def _filled(
        self, number: int, delta: dict[str, Any], finish_reason: str | None = None
    ) -> dict[str, Any]:
        choice = {**self._choice, "index": number, "delta": delta, "finish_reason": finish_reason}
        return {**self._chunk, "choices": [choice]}


def _logprobs(found: Mapping[str, Sequence[Any]] | None) -> ChoiceLogprobs | None:
    """Convert the log-probabilities of the completion API to those of chat."""
    if found is None:
        return None
    tokens, values = found["tokens"], found["token_logprobs"]
    tops = found.get("top_logprobs") or [None] * len(tokens)
    return ChoiceLogprobs(
        content=[
            TokenLogprob(
                token=token,
                logprob=value,
                bytes=list(token.encode()),
                top_logprobs=[
                    TopLogprob(token=name, logprob=of, bytes=list(name.encode()))
                    for name, of in (top or {}).items()
                ],
            )
            for token, value, top in zip(tokens, values, tops, strict=False)
        ],
        refusal=None,
    )


def new_id() -> str:
    """Return an id for an answer."""
    return f"chatcmpl-{uuid.uuid4().hex}"


def is_own_id(text: str) -> bool:
    """Return whether an id may come from `new_id`."""
    return _OWN_ID.fullmatch(text) is not None
