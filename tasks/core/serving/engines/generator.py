"""The interface of a model for the engine server: generating tokens, and scoring given ones.

The invariant: a generator handles token ids only. Text, stop strings, the protocol and the queue
are the server's.
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
    """How much is processed at once: so many requests, with a total cost of `capacity` at most."""

    requests: int
    capacity: int


class Generator(Protocol):
    """A loaded model that answers requests.

    context_tokens and vocabulary limit a prompt; end_tokens end an answer, whatever the request
    says.
    """

    context_tokens: int
    vocabulary: int
    end_tokens: frozenset[int]
    room: GeneratorRoom

    def check(self, wanted: Completion) -> None:
        """Raise RequestRefused for values that the engine would silently ignore."""

    def cost(self, wanted: Completion) -> int:
        """Return how much of the capacity a request takes until it ends."""

    def generate(self, wanted: Completion) -> AsyncGenerator[Token, None]:
        """Yield at most max_tokens tokens, at least up to the first end or stop token.

        Closing it ends the work within a token.
        """

    async def prompt_logprobs(self, prompt: Sequence[int]) -> list[float]:
        """Return the log-probability of each token but the first, given those before it."""

    async def embed(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return for each text the mean of its last hidden states, of length 1."""

    def failure(self) -> str | None:
        """Return why it can no longer answer, None while it can."""

    def close(self) -> None:
        """End its threads."""
