"""What is measured, as values: the job that the measuring process reads and the outcome it writes.

A chain of models is measured, each against the one before it, so that the figures say what each
stage of the lifecycle did. Neither torch nor transformers is imported here.
"""

import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.core.recipe import Evaluate

Role = Literal["base", "merged", "edited", "fine-tuned", "model", "against"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Subject(_Value):
    """A model of the chain, and what it is in the lifecycle."""

    role: Role
    path: Path


class EvaluationJob(_Value):
    """What the measuring process is told."""

    subjects: tuple[Subject, ...]
    template: str
    settings: Evaluate
    scratch: Path


class Figures(_Value):
    """How well one model foretells the assistant's words of the held-out conversations.

    nll_nats is the sum of the negative log-likelihoods of all measured tokens; utf8_bytes counts
    the answers that those tokens spell, so that models with different tokenizers compare.
    """

    role: Role
    conversations: int
    tokens: int
    utf8_bytes: int
    nll_nats: float
    tokens_per_s: float
    peak_memory_bytes: int

    @property
    def perplexity(self) -> float:
        """Return exp of the mean negative log-likelihood a token."""
        return _exp(self.nll_nats / self.tokens)

    @property
    def perplexity_per_byte(self) -> float:
        """Return exp of the mean negative log-likelihood a byte of UTF-8."""
        return _exp(self.nll_nats / self.utf8_bytes)


class Comparison(_Value):
    """How far a model is from the one before it, on the same tokens.

    kl_divergence_nats is KL(before || after), the mean over tokens; top1_agreement is the share of
    tokens for which both hold the same token to be the likeliest.
    """

    before: Role
    after: Role
    tokens: int
    kl_divergence_nats: float
    top1_agreement: float


class Answer(_Value):
    """What one model answers to one prompt, decoded greedily."""

    role: Role
    prompt_id: str
    prompt: str
    text: str
    tokens: int
    wall_s: float


class Outcome(_Value):
    """Everything that was measured."""

    figures: tuple[Figures, ...]
    comparisons: tuple[Comparison, ...]
    answers: tuple[Answer, ...]

    def of(self, role: Role) -> Figures | None:
        """Return the figures of the model with this role, if it was measured."""
        return next((figures for figures in self.figures if figures.role == role), None)

    def between(self, before: Role, after: Role) -> Comparison | None:
        """Return the comparison of two neighbours of the chain, if they could be compared."""
        pairs = (c for c in self.comparisons if (c.before, c.after) == (before, after))
        return next(pairs, None)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
