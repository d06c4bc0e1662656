"""The fields of a request that are honoured, and nothing else: what is not here is refused by name.

Not the types of the `openai` package: with pydantic their lists are lazy, so that an empty one or
a wrong message passes, and they ignore what they do not know (docs/decisions/0002-gateway.md).
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


# fail_fast: an error for each of a megabyte's items took seconds, in which nobody else was served.
_Ids = Annotated[list[int], Field(fail_fast=True, min_length=1)]


UserId = Annotated[str, Field(min_length=1, max_length=256)]
"""What a client calls the person who asks: no name is needed, only always the same one."""


class RequestBody(BaseModel):
    """Refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Part(RequestBody):
    type: Literal["text"]
    text: str


class Message(RequestBody):
    """A message; a list of text parts is joined by line breaks, as FastChat does."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[_Part], Field(fail_fast=True, min_length=1)]

    def turn(self) -> PromptTurn:
        """Return it as the prompt is made of it."""
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
        """Return the fields that every engine honours. top_p 0 is FastChat's for the likeliest."""
        if self.top_p == 0:
            return {"temperature": 0.0, "top_p": 1.0}
        return {"temperature": self.temperature, "top_p": self.top_p}

    def extras(self) -> dict[str, Any]:
        """Return the fields beyond those of every engine that ask for something."""
        idle = {"top_k": -1, "min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
        idle |= {"repetition_penalty": 1.0}
        values = {name: getattr(self, name) for name in (*idle, "seed", "logit_bias")}
        wanted = {name: v for name, v in values.items() if v != idle.get(name)}
        if self.log_probabilities is not None:
            wanted["logprobs"] = self.log_probabilities
        return wanted


class ChatRequest(Sampling):
    """The body of /v1/chat/completions. A text in place of messages is FastChat's."""

    messages: str | Annotated[list[Message], Field(fail_fast=True, min_length=1)]
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    store: StrictBool = Field(False, description="The person agrees to have the answer kept.")
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
    # As much as of chat, and more stops: what a gateway before this one makes of a conversation.
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
        """Return the fields beyond those of every engine, prompt_logprobs (vLLM's) among them."""
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
    """What is behind `?` in GET /v1/reviews."""

    limit: int = Field(20, ge=1, le=100, description="How many at most.")
    after: str | None = Field(None, description="Of the part before: where this one begins.")
    which: Literal["waiting", "reviewed", "all"] = "waiting"


class ReviewRequest(RequestBody):
    """The body of POST /v1/reviews."""

    id: str
    decision: Literal["accept", "reject"]
    answer: str | None = Field(None, description="What is learned in place of what was served.")
    seen: AwareDatetime | None = Field(
        None, description="When the decision was made that this one is to replace, if any."
    )


class TokenCheckRequest(RequestBody):
    """The body of FastChat's /api/v1/token_check."""

    prompts: Annotated[list[_TokenCheckItem], Field(fail_fast=True, min_length=1)]
