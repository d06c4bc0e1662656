"""A conversation with a served model in a terminal, through the openai client.

Covers one answer, streamed or complete, and a conversation that continues when it outgrows the
model's context. If the gateway requires a key, it comes from the environment
(`key_variables.API_KEY_VARIABLE`). The invariant: `max_tokens` is always sent, so that no answer is
longer than wanted.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import openai

from tasks.core.errors import KawanUsahaError, ServingFailed, UsageError
from tasks.core.serving.client.failures import FAILURES, FailureCause, RequestFailure, failure_of
from tasks.core.serving.client.key_variables import API_KEY_VARIABLE
from tasks.core.serving.client.turns import ChatMessage, has_room, room_question, without_oldest

_LEAST_ROOM_TOKENS = 256  # a shorter answer is of little use


class TooLong(UsageError):
    """The conversation is longer than the model's context."""


class Busy(ServingFailed):
    """The server accepts no more requests now."""

    retryable = True


def chat(
    base_url: str,
    model: str,
    messages: Sequence[ChatMessage],
    *,
    stream: bool,
    max_tokens: int = 512,
    temperature: float = 0.7,
    timeout_s: float = 600.0,
) -> Iterator[str]:
    """Yield the answer's text: piece by piece as it is generated, or at once.

    base_url ends in /v1 (Deployment.base_url). timeout_s is the limit for the next piece, or for
    the complete answer. Raises UsageError when the model is not the served one, TooLong when the
    conversation is longer than its context, Busy when the server accepts no more requests, and
    ServingFailed when it does not answer or fails.
    """
    with _asking(base_url, timeout_s) as client:
        answer = client.chat.completions.create(
            model=model,
            messages=list(messages),
            stream=stream,
            max_tokens=max_tokens,
            temperature=temperature,
        )
        if stream:
            yield from _pieces(answer)
        else:
            yield answer.choices[0].message.content or ""


@dataclass
class Talk:
    """A conversation, whose oldest messages are dropped once it outgrows the model's context.

    say gets the lines for the user.
    """

    base_url: str
    model: str
    say: Callable[[str], object]
    system: str | None = None
    max_tokens: int = 512
    temperature: float = 0.7
    _messages: list[ChatMessage] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.system:
            self._messages = [{"role": "system", "content": self.system}]

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer piece by piece. Raises as `chat`; the question is then forgotten.

        TooLong is raised only for a question that is too long by itself.
        """
        asked = self._with_room([*self._messages, {"role": "user", "content": question}])
        answer = ""
        while not answer:
            try:
                for piece in self._answer(asked):
                    answer += piece
                    yield piece
                break
            except TooLong:
                asked = self._shorter(asked)
        self._messages = [*asked, {"role": "assistant", "content": answer}]

    def _answer(self, messages: Sequence[ChatMessage]) -> Iterator[str]:
        return chat(
            self.base_url,
            self.model,
            messages,
            stream=True,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
        )

    def _with_room(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        """Return messages that leave room for an answer, which the context would cut otherwise."""
        least = min(self.max_tokens, _LEAST_ROOM_TOKENS)
        while (shorter := without_oldest(messages)) and not self._has_room(messages, least):
            messages = self._told(shorter)
        return messages

    def _has_room(self, messages: Sequence[ChatMessage], answer_tokens: int) -> bool:
        with _asking(self.base_url, timeout_s=60) as client:
            question = room_question(self.model, messages, answer_tokens)
            try:
                return has_room(client.post("/token_check", cast_to=object, body=question))
            except openai.APIStatusError:
                return True  # the question itself will get an answer, or a better error

    def _shorter(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        shorter = without_oldest(messages)
        if shorter is None:
            raise TooLong(
                "This question alone is longer than the model's context.",
                next_step="Use fewer words, or ask in several parts.",
            )
        return self._told(shorter)

    def _told(self, shorter: list[ChatMessage]) -> list[ChatMessage]:
        self.say("(The oldest question and its answer are left out: the model's context is full.)")
        return shorter


@contextmanager
def _asking(base_url: str, timeout_s: float) -> Iterator[Any]:
    """Yield a client whose errors are raised as ours."""
    # trust_env: requests to this machine itself must not go to a proxy of the environment.
    with (
        openai.DefaultHttpxClient(trust_env=False, timeout=timeout_s) as transport,
        openai.OpenAI(
            base_url=base_url,
            api_key=os.environ.get(API_KEY_VARIABLE, "none"),
            http_client=transport,
            max_retries=0,
        ) as client,
    ):
        try:
            yield client
        except FAILURES as failure:
            raise _error(failure_of(failure), base_url) from failure


def _pieces(chunks: Any) -> Iterator[str]:
    for chunk in chunks:
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            yield piece


def _error(failure: RequestFailure, base_url: str) -> KawanUsahaError:
    what = f"{failure.cause.value[0].upper()}{failure.cause.value[1:]}."
    kind, next_step = _REMEDIES.get(
        failure.cause, (ServingFailed, "`kawan-usaha status` tells what runs.")
    )
    if failure.retry_after_s is not None:
        next_step = f"Ask again in {failure.retry_after_s} s."
    return kind(what, where=base_url, found=failure.said, next_step=next_step)


_REMEDIES: dict[FailureCause, tuple[type[KawanUsahaError], str]] = {
    FailureCause.TOO_LONG: (TooLong, "Use fewer words, or ask in several parts."),
    FailureCause.BUSY: (Busy, "Ask again in a moment."),
    FailureCause.NO_MODEL: (UsageError, "`kawan-usaha status` tells what runs."),
    FailureCause.NO_KEY: (UsageError, f"Put a key of this deployment into {API_KEY_VARIABLE}."),
}
