"""What is measured, as values: the job that the measuring process reads and the outcome it writes.

A chain of models is measured, each against the one before it, so that the figures say what each
stage of the lifecycle did, and the last one also against the release before it. Neither torch nor
transformers is imported here. A figure that is not a finite number survives the way through JSON.
"""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.core.conversation.checking.leaks import Leaks, Overlap
from tasks.core.evaluation.judgement import Judgement
from tasks.core.recipe import Evaluate

Role = Literal["release before", "base", "merged", "edited", "fine-tuned", "model", "against"]
_EARLIER: tuple[Role, ...] = ("release before", "against")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Subject(_Value):
    """A model to measure, what it is in the lifecycle, and what it is held against.

    `against` names roles that are measured before this one.
    """

    role: Role
    path: Path
    against: tuple[Role, ...] = ()


def chain(models: Sequence[tuple[Role, Path]], before: Path | None = None) -> tuple[Subject, ...]:
    """Return the models of a lifecycle as subjects, each held against the one before it.

    With `before`, the last of them is held against that earlier release too, which is measured
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


class EvaluationJob(_Value):
    """What the measuring process is told.

    `overlap` is what of the held-out records stands in the training data, None where that is not
    known.
    """

    subjects: tuple[Subject, ...]
    template: str
    settings: Evaluate
    scratch: Path
    overlap: Overlap | None = None


class Read(_Value):
    """How well one model predicts the answers of one conversation: that record of the file."""

    position: int
    tokens: int
    utf8_bytes: int
    nll_nats: float


class Figures(_Value):
    """How well one model predicts the assistant's words of the held-out conversations.

    nll_nats is the sum of the negative log-likelihoods of all measured tokens; utf8_bytes counts
    the answers that those tokens spell, so that models with different tokenizers compare.
    tokenizer_digest says which tokenizer it was; without one it counts as another one. `reads` are
    the sums of each conversation, of which an evaluation by an earlier version has none.
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
    reads: tuple[Read, ...] = ()

    @property
    def perplexity(self) -> float:
        """Return exp of the mean negative log-likelihood a token."""
        return _exp(self.nll_nats / self.tokens)

    @property
    def perplexity_per_byte(self) -> float:
        """Return exp of the mean negative log-likelihood a byte of UTF-8."""
        return _exp(self.nll_nats / self.utf8_bytes)

    def has_tokenizer_of(self, other: "Figures") -> bool:
        """Return whether both models cut a text into the same tokens."""
        return self.tokenizer_digest is not None and self.tokenizer_digest == other.tokenizer_digest

    def of_records(self, positions: Collection[int]) -> "Figures | None":
        """Return the figures of these conversations alone; None where none of them was read."""
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
        """Return this model's perplexity a token over the one of `before`.

        With another tokenizer, which cuts the same answers into fewer or more tokens, the
        likelihood of the answers is spread over the tokens of `before`: a model that is twice as
        bad a token has the ratio 2 in either case. Infinity where this perplexity is infinite, 0
        where only the one of `before` is; NaN where one of them is no number.
        """
        if not math.isfinite(self.perplexity):
            return self.perplexity
        if self.has_tokenizer_of(before):
            return _exp(self.nll_nats / self.tokens - before.nll_nats / before.tokens)
        nats_a_byte = self.nll_nats / self.utf8_bytes - before.nll_nats / before.utf8_bytes
        return _exp(nats_a_byte * before.utf8_bytes / before.tokens)


class HeldOut(_Value):
    """What became of the held-out records: the same rules as in training set some of them aside.

    `set_aside` counts them by fault; `first_set_aside` names some. `leaks` is what of the
    measured ones stands in the training data, None where no training data was named.
    """

    records: int
    measured: int
    set_aside: dict[str, int]
    first_set_aside: tuple[str, ...] = ()
    leaks: Leaks | None = None


class Comparison(_Value):
    """How far a model is from one that it is held against, on the same tokens.

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


class Benchmark(_Value):
    """One metric of one lm-eval task for one model, with its standard error where it has one."""

    role: Role
    task: str
    metric: str
    value: float
    stderr: float | None


class Outcome(_Value):
    """Everything that was measured. The last figures are those of the model to release.

    `judgement` is what a judge prefers, None where none was asked or nothing could be compared.
    """

    figures: tuple[Figures, ...]
    comparisons: tuple[Comparison, ...]
    answers: tuple[Answer, ...]
    benchmarks: tuple[Benchmark, ...] = ()
    held_out: HeldOut | None = None
    judgement: Judgement | None = None

    @property
    def leaks(self) -> Leaks | None:
        """What of the held-out conversations stands in the training data, if that is known."""
        return self.held_out.leaks if self.held_out else None

    def of(self, role: Role) -> Figures | None:
        """Return the figures of the model with this role, if it was measured."""
        return next((figures for figures in self.figures if figures.role == role), None)

    def between(self, before: Role, after: Role) -> Comparison | None:
        """Return the comparison of two models, if they were and could be compared."""
        pairs = (c for c in self.comparisons if (c.before, c.after) == (before, after))
        return next(pairs, None)

    def generated_per_s(self, role: Role) -> float | None:
        """Return the tokens a second in which the model answered, None without answers."""
        own = [answer for answer in self.answers if answer.role == role]
        wall_s = sum(answer.wall_s for answer in own)
        return sum(answer.tokens for answer in own) / wall_s if wall_s else None


def compared_roles(outcome: Outcome) -> tuple[Role, Role] | None:
    """Return the model that the last one's answers are judged beside, and the last one.

    None where there is no earlier release, nor a model that was named to compare with.
    """
    after = outcome.figures[-1].role
    earlier = (role for role in _EARLIER if outcome.of(role) is not None)
    before = next(earlier, None)
    return None if before is None else (before, after)


def _exp(value: float) -> float:
    return math.inf if value >= 700 else math.exp(value)  # NaN stays NaN
