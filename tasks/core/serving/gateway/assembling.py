"""Assembling answers from their pieces for responses without streaming, and counting tokens."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from openai.types import CompletionUsage

from tasks.core.serving.gateway.engine_client import AnswerPiece, Usage
from tasks.core.serving.gateway.merging import Event

_LOGPROBS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


@dataclass
class AssembledAnswer:
    """One answer as far as it has arrived."""

    texts: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    logprobs: dict[str, list[Any]] | None = None
    prompt_logprobs: list[Any] | None = None

    @property
    def text(self) -> str:
        """The text."""
        return "".join(self.texts)

    def add(self, piece: AnswerPiece) -> None:
        """Append a piece."""
        self.texts.append(piece.text)
        self.finish_reason = piece.finish_reason or self.finish_reason
        self.prompt_logprobs = piece.prompt_logprobs or self.prompt_logprobs
        if piece.logprobs is not None:
            self.logprobs = _longer(self.logprobs, piece.logprobs)


class UsageCount:
    """Counts the tokens of a request; a prompt counts once, however many answers it gets."""

    def __init__(self, answers_per_prompt: int) -> None:
        self._answers_per_prompt = answers_per_prompt
        self._prompt_tokens: dict[int, int] = {}
        self._completion_tokens = 0

    def add(self, number: int, usage: Usage) -> None:
        """Add the usage of one answer."""
        self._prompt_tokens[number // self._answers_per_prompt] = usage.prompt_tokens
        self._completion_tokens += usage.completion_tokens

    def usage(self) -> CompletionUsage:
        """Return OpenAI's object."""
        prompt = sum(self._prompt_tokens.values())
        return CompletionUsage(
            prompt_tokens=prompt,
            completion_tokens=self._completion_tokens,
            total_tokens=prompt + self._completion_tokens,
        )


async def assembled(
    events: AsyncGenerator[Event, None], answers_per_prompt: int
) -> tuple[list[AssembledAnswer], CompletionUsage]:
    """Return all answers in the order of their numbers, and the total usage."""
    answers: dict[int, AssembledAnswer] = {}
    counted = UsageCount(answers_per_prompt)
    async with aclosing(events):
        async for number, piece in events:
            if isinstance(piece, Usage):
                counted.add(number, piece)
            else:
                answers.setdefault(number, AssembledAnswer()).add(piece)
    return [answers[number] for number in sorted(answers)], counted.usage()


def _longer(
    before: Mapping[str, list[Any]] | None, more: Mapping[str, list[Any] | None]
) -> dict[str, list[Any]]:
    old = before or {}
    return {name: [*old.get(name, ()), *(more.get(name) or ())] for name in _LOGPROBS}
