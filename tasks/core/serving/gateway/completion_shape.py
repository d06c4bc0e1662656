"""Responses of /v1/completions and /v1/embeddings, in the shapes of `openai.types`."""

import base64
import time
import uuid
from array import array
from collections.abc import Sequence
from typing import Any, Literal

from openai.types import Completion, CompletionChoice, CompletionUsage
from openai.types import CreateEmbeddingResponse as EmbeddingResponse
from openai.types.completion_choice import Logprobs
from pydantic_core import to_json

from tasks.core.serving.gateway.assembling import AssembledAnswer
from tasks.core.serving.gateway.engine_client import AnswerPiece


def whole(model: str, answers: Sequence[AssembledAnswer], usage: CompletionUsage) -> bytes:
    """Return the body of an answer that is not streamed."""
    completion = _empty(model)
    completion.usage = usage
    for index, answer in enumerate(answers):
        choice = CompletionChoice.model_construct(
            index=index,
            text=answer.text,
            finish_reason=answer.finish_reason,
            logprobs=answer.logprobs and Logprobs.model_construct(**answer.logprobs),
        )
        if answer.prompt_logprobs is not None:
            choice.prompt_logprobs = answer.prompt_logprobs
        completion.choices.append(choice)
    body: bytes = to_json(completion.model_dump(exclude_unset=True, warnings=False))
    return body


class CompletionChunks:
    """The chunks of one stream."""

    def __init__(self, model: str) -> None:
        self._chunk: dict[str, Any] = _empty(model).model_dump(exclude_unset=True)

    def opening(self, _answers: int) -> list[dict[str, Any]]:
        """Return nothing: completions have no roles."""
        return []

    def of(self, number: int, piece: AnswerPiece) -> list[dict[str, Any]]:
        """Return the chunk of a piece, if it contains anything."""
        said = piece.logprobs, piece.prompt_logprobs, piece.finish_reason
        if not piece.text and said == (None, None, None):
            return []
        choice = {
            "index": number,
            "text": piece.text,
            "logprobs": piece.logprobs,
            "finish_reason": piece.finish_reason,
        }
        if piece.prompt_logprobs is not None:
            choice["prompt_logprobs"] = piece.prompt_logprobs
        return [{**self._chunk, "choices": [choice]}]

    def usage(self, usage: CompletionUsage) -> dict[str, Any]:
        """Return the chunk that closes a stream with `include_usage`."""
        return {**self._chunk, "choices": [], "usage": usage.model_dump(exclude_unset=True)}


def embeddings_body(
    model: str, found: EmbeddingResponse, encoding_format: Literal["float", "base64"]
) -> bytes:
    """Return the body for an engine's embeddings, as numbers or as float32 in base64."""
    body = found.model_dump(exclude_unset=True) | {"model": model}
    if encoding_format == "base64":
        for one in body["data"]:
            one["embedding"] = base64.b64encode(array("f", one["embedding"]).tobytes()).decode()
    encoded: bytes = to_json(body)
    return encoded


def _empty(model: str) -> Completion:
    return Completion(
        id=f"cmpl-{uuid.uuid4().hex}",
        object="text_completion",
        created=int(time.time()),
        model=model,
        choices=[],
    )
