"""What the engine server asks of a model: tokens for a request, and what it thinks of given ones.

The invariant: a generator knows token ids only. Text, stop strings, the wire and who may wait are
the server's.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tasks.core.serving.engines.request import Completion


@dataclass(frozen=True)
class Token:
    """A token that the model has chosen.

    The log-probabilities (natural) are those of the model itself, before temperature and the like;
    likeliest are the requested number of tokens with the highest.
    """

    id: int
    logprob: float | None = None
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class GeneratorRoom:
    """How much is worked on at once: so many requests, that cost no more than `capacity` in all."""

    requests: int
    capacity: int


class Generator(Protocol):
    """A loaded model that answers requests.

    context_tokens and vocabulary bound a prompt; end_tokens are those after which an answer is
    over, whatever the request says.
    """

    context_tokens: int
    vocabulary: int
    end_tokens: frozenset[int]
    room: GeneratorRoom

    def check(self, wanted: Completion) -> None:
        """Raise RequestRefused for values that the engine would silently not follow."""

    def cost(self, wanted: Completion) -> int:
        """Return which part of the room's capacity a request takes until its end."""

    def generate(self, wanted: Completion) -> AsyncGenerator[Token, None]:
        """Yield at most max_tokens tokens, at least up to the first end or stop token.

        Closing it ends the work within a token.
        """

    async def prompt_logprobs(self, prompt: Sequence[int]) -> list[float]:
        """Return the log-probability of each token but the first, given those before it."""

    async def embed(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return for each text the mean of its last hidden states, of length 1."""

    def failure(self) -> str | None:
        """Return why it can answer nothing any more, None while it can."""

    def close(self) -> None:
        """End its threads."""
