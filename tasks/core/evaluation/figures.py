"""What is measured, as values: the job that the measuring process reads and the outcome it writes.

A chain of models is measured, each against the one before it, so that the figures show the effect
of each stage of the lifecycle, and the last one also against the release before it. Imports neither
torch nor transformers. Figures that are NaN or infinite survive JSON.
"""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.core.conversation.checking.leaks import Leaks, Overlap
from tasks.core.evaluation.judgement import PairwiseJudgement
from tasks.core.recipe import Evaluate

Role = Literal["release before", "base", "merged", "edited", "fine-tuned", "model", "against"]
_EARLIER: tuple[Role, ...] = ("release before", "against")


class _EvaluationRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Subject(_EvaluationRecord):
    """A model to measure, its role in the lifecycle, and the models that it is compared with.

    `against` names roles that are measured before this one.
    """

    role: Role
    path: Path
    against: tuple[Role, ...] = ()


def subjects_of(
    models: Sequence[tuple[Role, Path]], before: Path | None = None
) -> tuple[Subject, ...]:
    """Return the models of a lifecycle as subjects, each compared with the one before it.

    With `before`, the last of them is also compared with that earlier release, which is measured
    first.
    """
    earlier: Role = "release before"
    subjects = [] if before is None else [Subject(role=earlier, path=before)]
    for number, (role, path) in enumerate(models):
        neighbour = [models[number - 1][0]] if number else []
        is_last = number == len(models) - 1
        release = [earlier] if before is not None and is_last else []
        subjects.append(Subject(role=role, path=path, against=(*neighbour, *release)))
    return tuple(subjects)


class EvaluationJob(_EvaluationRecord):
    """The request to the measuring process.

    `overlap`: the held-out records that are also in the training data, None where unknown.
    """

    subjects: tuple[Subject, ...]
    template: str
    settings: Evaluate
    scratch: Path
    overlap: Overlap | None = None


class ConversationFigures(_EvaluationRecord):
    """How well one model predicts the answers of one conversation, by its position in the file."""

    position: int
    tokens: int
    utf8_bytes: int
    nll_nats: float


class Figures(_EvaluationRecord):
    """How well one model predicts the assistant's turns of the held-out conversations.

    nll_nats is the sum of the negative log-likelihoods of all measured tokens; utf8_bytes is the
    length of the answers that they encode, so that models with different tokenizers can be
    compared. tokenizer_digest identifies the tokenizer; None matches no other. `reads` has the
    figures of each conversation; evaluations by earlier versions have none.
    """

    role: Role
    conversations: int
    tokens: int
    utf8_bytes: int
    nll_nats: float
    dtype: str
    tokens_per_s: float
    peak_memory_bytes: int
    tokenizer_digest: str | None = None
    reads: tuple[ConversationFigures, ...] = ()

    @property
    def perplexity(self) -> float:
        """Return exp of the mean negative log-likelihood per token."""
        return _exp(self.nll_nats / self.tokens)

    @property
    def perplexity_per_byte(self) -> float:
        """Return exp of the mean negative log-likelihood per byte of UTF-8."""
        return _exp(self.nll_nats / self.utf8_bytes)

    def has_tokenizer_of(self, other: "Figures") -> bool:
        """Return whether both models have the same tokenizer."""
        return self.tokenizer_digest is not None and self.tokenizer_digest == other.tokenizer_digest

    def of_records(self, positions: Collection[int]) -> "Figures | None":
        """Return the figures of these conversations alone, None where none of them was measured."""
        reads = tuple(read for read in self.reads if read.position in positions)
        if not reads:
            return None
        return self.model_copy(
            update={
                "conversations": len(reads),
                "tokens": sum(read.tokens for read in reads),
                "utf8_bytes": sum(read.utf8_bytes for read in reads),
                "nll_nats": math.fsum(read.nll_nats for read in reads),
                "reads": reads,
            }
        )

    def perplexity_ratio_to(self, before: "Figures") -> float:
        """Return this model's per-token perplexity divided by that of `before`.

        With another tokenizer, which splits the same answers into fewer or more tokens, the
        likelihood of the answers is divided by the number of tokens of `before`, so that the ratio
        means the same in either case. Infinity where this perplexity is infinite, 0 where only that
        of `before` is; NaN where one of them is NaN.
        """
        if not math.isfinite(self.perplexity):
            return self.perplexity
        if self.has_tokenizer_of(before):
            return _exp(self.nll_nats / self.tokens - before.nll_nats / before.tokens)
        nats_a_byte = self.nll_nats / self.utf8_bytes - before.nll_nats / before.utf8_bytes
        return _exp(nats_a_byte * before.utf8_bytes / before.tokens)


class HeldOut(_EvaluationRecord):
    """How many held-out records were measured, and how many the rules of training set aside.

    `set_aside` counts those by fault; `first_set_aside` names some. `leaks`: the measured ones that
    are also in the training data, None where no training data was named.
    """

    records: int
    measured: int
    set_aside: dict[str, int]
    first_set_aside: tuple[str, ...] = ()
    leaks: Leaks | None = None


class Comparison(_EvaluationRecord):
    """How far the predictions of two models are apart, on the same tokens.

    kl_divergence_nats is KL(before || after), the mean over tokens; top1_agreement is the share of
    tokens for which both predict the same token.
    """

    before: Role
    after: Role
    tokens: int
    kl_divergence_nats: float
    top1_agreement: float


class ModelAnswer(_EvaluationRecord):
    """One model's answer to one prompt, decoded greedily."""

    role: Role
    prompt_id: str
    prompt: str
    text: str
    tokens: int
    wall_s: float


class Benchmark(_EvaluationRecord):
    """One metric of one lm-eval task for one model, with its standard error if there is one."""

    role: Role
    task: str
    metric: str
    value: float
    stderr: float | None


class EvaluationOutcome(_EvaluationRecord):
    """Everything that was measured. The last figures are those of the model to release.

    `judgement` is None where no judge was asked or nothing could be compared.
    """

    figures: tuple[Figures, ...]
    comparisons: tuple[Comparison, ...]
    answers: tuple[ModelAnswer, ...]
    benchmarks: tuple[Benchmark, ...] = ()
    held_out: HeldOut | None = None
    judgement: PairwiseJudgement | None = None

    @property
    def leaks(self) -> Leaks | None:
        """The held-out conversations that are also in the training data, None where unknown."""
        return self.held_out.leaks if self.held_out else None

    def of(self, role: Role) -> Figures | None:
        """Return the figures of the model with this role, if it was measured."""
        return next((figures for figures in self.figures if figures.role == role), None)

    def between(self, before: Role, after: Role) -> Comparison | None:
        """Return the comparison of two models, None if they were not or could not be compared."""
        pairs = (c for c in self.comparisons if (c.before, c.after) == (before, after))
        return next(pairs, None)

    def generated_per_s(self, role: Role) -> float | None:
        """Return the tokens per second at which the model answered, None without answers."""
        own = [answer for answer in self.answers if answer.role == role]
        wall_s = sum(answer.wall_s for answer in own)
        return sum(answer.tokens for answer in own) / wall_s if wall_s else None


def compared_roles(outcome: EvaluationOutcome) -> tuple[Role, Role] | None:
    """Return the two models whose answers a judge compares: an earlier one, and the last one.

    None where there is neither an earlier release nor a model named to compare with.
    """
    after = outcome.figures[-1].role
    earlier = (role for role in _EARLIER if outcome.of(role) is not None)
    before = next(earlier, None)
    return None if before is None else (before, after)


def _exp(value: float) -> float:
    return math.inf if value >= 700 else math.exp(value)  # NaN stays NaN
