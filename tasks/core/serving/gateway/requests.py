"""The supported fields of requests. Any other field is refused by name.

Not the types of the `openai` package: with pydantic their lists are lazy, so that an empty one or
an invalid message passes, and they ignore unknown fields (docs/decisions/0002-gateway.md).
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    field_validator,
    model_validator,
)

from tasks.core.serving.gateway.prompts import PromptTurn

_MAX_STOPS = 16
_MAX_BIASES = 1024
_MAX_N = 16


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _few(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > _MAX_BIASES:
        raise ValueError(f"at most {_MAX_BIASES} tokens")
    return value


# fail_fast: one error per item of a megabyte took seconds, in which nobody else was served.
_Ids = Annotated[list[int], Field(fail_fast=True, min_length=1)]


UserId = Annotated[str, Field(min_length=1, max_length=256)]
"""A client's id for the person who asks: not a name, but always the same."""


class RequestBody(BaseModel):
    """Refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Part(RequestBody):
    type: Literal["text"]
    text: str


class Message(RequestBody):
    """A message; a list of text parts is joined by line breaks, as FastChat does."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[_Part], Field(fail_fast=True, min_length=1)]

    def turn(self) -> PromptTurn:
        """Return it as a turn of the prompt."""
        parts = self.content
        text = parts if isinstance(parts, str) else "\n".join(part.text for part in parts)
        return PromptTurn("system" if self.role == "developer" else self.role, text)


class _StreamOptions(RequestBody):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Sampling(RequestBody, ABC):
    """What chat and completions have in common. temperature's default is FastChat's."""

    model: str
    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(-1, ge=-1)
    min_p: float = Field(0.0, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    logit_bias: (
        Annotated[
            dict[int, Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=_MAX_BIASES),
            BeforeValidator(_few),
        ]
        | None
    ) = None
    n: int = Field(1, ge=1, le=_MAX_N)
    max_tokens: int | None = Field(None, ge=1)
    stop: Annotated[
        list[str], Field(fail_fast=True, max_length=_MAX_STOPS), BeforeValidator(_list)
    ] = []
    stop_token_ids: Annotated[list[int], Field(fail_fast=True)] = []
    stream: bool = False
    stream_options: _StreamOptions = _StreamOptions()

    @field_validator("stop")
    @classmethod
    def _no_empty_stop(cls, stops: list[str]) -> list[str]:
        if "" in stops:
            raise ValueError("an empty text would end every answer at once")
        return stops

    @field_validator("top_k")
    @classmethod
    def _top_k_counts(cls, top_k: int) -> int:
        return top_k or -1  # 0 and -1 both mean all tokens

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> Self:
        if self.stream_options.include_usage and not self.stream:
            raise ValueError("stream_options is only allowed with stream: true")
        return self

    @property
    @abstractmethod
    def log_probabilities(self) -> int | None:
        """How many alternatives to each token are wanted; None for no log-probabilities."""

    @property
    def wanted_tokens(self) -> int | None:
        """How long an answer may be, in tokens, if the client says."""
        return self.max_tokens

    def of_every_engine(self) -> dict[str, Any]:
        """Return the fields that every engine supports. top_p 0 is FastChat's greedy decoding."""
        if self.top_p == 0:
            return {"temperature": 0.0, "top_p": 1.0}
        return {"temperature": self.temperature, "top_p": self.top_p}

    def extras(self) -> dict[str, Any]:
        """Return the optional fields that have an effect."""
        idle = {"top_k": -1, "min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
        idle |= {"repetition_penalty": 1.0}
        values = {name: getattr(self, name) for name in (*idle, "seed", "logit_bias")}
        wanted = {name: v for name, v in values.items() if v != idle.get(name)}
        if self.log_probabilities is not None:
            wanted["logprobs"] = self.log_probabilities
        return wanted


class ChatRequest(Sampling):
    """The body of /v1/chat/completions. A string instead of messages is FastChat's."""

    messages: str | Annotated[list[Message], Field(fail_fast=True, min_length=1)]
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    store: StrictBool = Field(False, description="The person agrees to have the answer stored.")
    user: UserId | None = Field(None, description="Who asks; read with `store: true` only.")

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs is only allowed with logprobs: true")
        return self

    @property
    def log_probabilities(self) -> int | None:
        """How many alternatives to each token are wanted; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def wanted_tokens(self) -> int | None:
        """How long an answer may be: the smaller one of both names, if the client says."""
        said = [n for n in (self.max_tokens, self.max_completion_tokens) if n is not None]
        return min(said, default=None)


class CompletionRequest(Sampling):
    """The body of /v1/completions: a text or token ids, or a list of them."""

    prompt: (
        str
        | _Ids
        | Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=_MAX_N)]
        | Annotated[list[_Ids], Field(fail_fast=True, min_length=1, max_length=_MAX_N)]
    )
    # As many as for chat, and more stops: another gateway in front makes it of a conversation.
    logprobs: int | None = Field(None, ge=0, le=20)
    stop: Annotated[
        list[str], Field(fail_fast=True, max_length=2 * _MAX_STOPS), BeforeValidator(_list)
    ] = []
    prompt_logprobs: int | None = Field(None, ge=0, le=5)

    @property
    def log_probabilities(self) -> int | None:
        """How many alternatives to each token are wanted; None for no log-probabilities."""
        return self.logprobs

    def extras(self) -> dict[str, Any]:
        """Return the optional fields that have an effect, including prompt_logprobs (vLLM's)."""
        wanted = super().extras()
        if self.prompt_logprobs is not None:
            wanted["prompt_logprobs"] = self.prompt_logprobs
        return wanted


class EmbeddingRequest(RequestBody):
    """The body of /v1/embeddings."""

    model: str
    input: (
        str
        | _Ids
        | Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=256)]
        | Annotated[list[_Ids], Field(fail_fast=True, min_length=1, max_length=256)]
    )
    encoding_format: Literal["float", "base64"] = "float"


class _TokenCheckItem(RequestBody):
    model: str
    prompt: str
    max_tokens: int = 0


class ReviewsQuery(RequestBody):
    """The query of GET /v1/reviews."""

    limit: int = Field(20, ge=1, le=100, description="At most this many.")
    after: str | None = Field(
        None, description="`after` of the previous part, where this one begins."
    )
    which: Literal["waiting", "reviewed", "all"] = "waiting"


class ReviewRequest(RequestBody):
    """The body of POST /v1/reviews."""

    id: str
    decision: Literal["accept", "reject"]
    answer: str | None = Field(
        None, description="The answer to learn instead of the one that was served."
    )
    seen: AwareDatetime | None = Field(
        None, description="The time of the decision that this one replaces, if any."
    )


class TokenCheckRequest(RequestBody):
    """The body of FastChat's /api/v1/token_check."""

    prompts: Annotated[list[_TokenCheckItem], Field(fail_fast=True, min_length=1)]
