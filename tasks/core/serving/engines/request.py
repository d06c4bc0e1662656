"""Requests of the engine protocol: parsed, or refused.

    read_completion  a body -> Completion, with nothing in it that the engine would ignore
    read_embeddings  a body -> Embeddings

Anything else is a RequestRefused, which names the field.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

OPTIONAL_FIELDS: Final = frozenset(
    {
        *("top_k", "min_p", "seed", "logit_bias", "logprobs", "prompt_logprobs"),
        *("presence_penalty", "frequency_penalty", "repetition_penalty"),
    }
)
"""The fields that an engine may not support."""

_SHOWN_ERRORS = 3

TokenId = Annotated[int, Field(ge=0)]
Body = TypeVar("Body", bound=BaseModel)


class RequestRefused(Exception):
    """A request that is refused, with the HTTP status of the response."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code

    def as_json(self) -> bytes:
        """Return the body of the response, in ASCII: field names may contain half a character."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "code": self.code}
        return json.dumps({"error": error}).encode()


class _Value(BaseModel):
    # strict: neither `true` nor "1" is a number. Python's JSON allows NaN, ours does not.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StreamOptions(_Value):
    """Requests the usage with the stream."""

    include_usage: Literal[True]


class Completion(_Value):
    """A request for an answer. The defaults have no effect."""

    model: str
    prompt: tuple[TokenId, ...] = Field(min_length=1)
    max_tokens: int = Field(16, ge=1)
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, ge=0, le=1)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    stop_token_ids: tuple[TokenId, ...] = ()
    stream: Literal[True] = True
    stream_options: StreamOptions = StreamOptions(include_usage=True)
    top_k: int = Field(-1, ge=-1, description="0 and -1: all tokens.")
    min_p: float = Field(0.0, ge=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0)
    logprobs: int | None = Field(None, ge=0, le=20)
    logit_bias: Mapping[str, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    prompt_logprobs: Literal[0] | None = None

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is chosen; the thresholds are FastChat's."""
        return self.temperature < 1e-5 or self.top_p < 1e-8


class Embeddings(_Value):
    """A request for embeddings of texts, each its token ids."""

    model: str
    input: tuple[Annotated[tuple[TokenId, ...], Field(min_length=1)], ...] = Field(min_length=1)


@dataclass(frozen=True)
class ModelLimits:
    """The limits of the served model; takes are the optional fields that its engine supports."""

    model_name: str
    context_tokens: int
    vocabulary: int
    takes: frozenset[str]


def read_completion(body: bytes, limits: ModelLimits) -> Completion:
    """Return the request for an answer. Raises RequestRefused."""
    wanted = _parsed(Completion, body)
    _require_model(wanted.model, limits)
    null = [name for name in wanted.model_fields_set if getattr(wanted, name) is None]
    if null:
        raise _refused(f"{', '.join(sorted(null))}: null is no value")
    missing = OPTIONAL_FIELDS & wanted.model_fields_set - limits.takes
    if missing:
        raise _refused(f"this engine does not support: {', '.join(sorted(missing))}")
    _require_ids("prompt", wanted.prompt, limits)
    _require_ids("stop_token_ids", wanted.stop_token_ids, limits)
    _require_ids("logit_bias", [_token_id(name) for name in wanted.logit_bias], limits)
    if len(wanted.prompt) + wanted.max_tokens > limits.context_tokens:
        raise RequestRefused(
            400,
            f"The context is {limits.context_tokens} tokens; the prompt has {len(wanted.prompt)} "
            f"and max_tokens is {wanted.max_tokens}. Shorten the prompt or ask for fewer.",
            "context_length_exceeded",
        )
    return wanted


def read_embeddings(body: bytes, limits: ModelLimits) -> Embeddings:
    """Return the request for embeddings. Raises RequestRefused."""
    wanted = _parsed(Embeddings, body)
    _require_model(wanted.model, limits)
    for number, ids in enumerate(wanted.input):
        _require_ids(f"input.{number}", ids, limits)
        if len(ids) > limits.context_tokens:
            raise RequestRefused(
                400,
                f"The context is {limits.context_tokens} tokens; input.{number} has {len(ids)}.",
                "context_length_exceeded",
            )
    return wanted


def _parsed(kind: type[Body], body: bytes) -> Body:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        # Without the values, which may be lists of thousands.
        faults = error.errors(include_input=False, include_url=False)
        said = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in faults]
        raise _refused("; ".join(said[:_SHOWN_ERRORS])) from None


def _require_model(name: str, limits: ModelLimits) -> None:
    if name != limits.model_name:
        raise RequestRefused(404, f"Only {limits.model_name} is served here.", "model_not_found")


def _require_ids(name: str, ids: tuple[int, ...] | list[int], limits: ModelLimits) -> None:
    if ids and max(ids) >= limits.vocabulary:
        raise _refused(f"{name}: {max(ids)} is no token id; there are {limits.vocabulary}")


def _token_id(name: str) -> int:
    if not (name.isascii() and name.isdigit()):
        raise _refused("logit_bias: its names are token ids")
    return int(name)


def _refused(message: str) -> RequestRefused:
    return RequestRefused(400, message, "invalid_value")
