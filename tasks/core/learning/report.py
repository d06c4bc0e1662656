"""The result of a run of `learn`: whether its model is released, why, and what changed. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.core.evaluation.figures import EvaluationOutcome, ModelAnswer, compared_roles
from tasks.core.evaluation.gate import GateCheck, GateVerdict
from tasks.core.evaluation.judgement import JudgedPair, PairwiseJudgement
from tasks.core.evaluation.judgement_text import judgement_lines
from tasks.core.evaluation.summary import notes
from tasks.core.learning.changes import TopicChange, changes
from tasks.core.learning.topics import Topics

MAX_ANSWERS = 12
"""Pairs of answers shown for each measurement."""


@dataclass(frozen=True)
class Measured:
    """A set of conversations on which both models were measured, and the verdict.

    topics has the topic of each record of the file, by position.
    """

    title: str
    outcome: EvaluationOutcome
    verdict: GateVerdict
    topics: Mapping[int, str]


@dataclass(frozen=True)
class ReviewedCounts:
    """The contents of a reviewed set: its accepted answers, those new to `learn`, and its files."""

    answers: int
    new: int
    conversations: int
    held_out: int
    preferences: int


@dataclass(frozen=True)
class Side:
    """One question, with the answers of the release and of the new model."""

    topic: str
    prompt: str
    before: str
    after: str
    judged: str | None


@dataclass(frozen=True)
class ReportSection:
    """The results on one set of conversations."""

    title: str
    conversations: int
    changes: tuple[TopicChange, ...]
    sides: tuple[Side, ...]
    checks: tuple[GateCheck, ...]
    judgement: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class LearningReport:
    """The report about one decision. `reviewed_set` is the name of the artifact."""

    recipe: str
    reviewed_set: str
    released: bool
    reasons: tuple[str, ...]
    counts: ReviewedCounts
    sections: tuple[ReportSection, ...]

    @property
    def headline(self) -> str:
        """The decision in words."""
        return "Released" if self.released else "Not released"


def learning_report(
    recipe: str,
    reviewed_set: str,
    counts: ReviewedCounts,
    measured: Sequence[Measured],
    topics: Topics,
    *,
    reasons: Sequence[str] = (),
) -> LearningReport:
    """Return the report: the model is released if every verdict allows it.

    `reasons` are further reasons against the release.
    """
    failed = [
        f"{each.title}: {reason}"
        for each in measured
        if not each.verdict.allows_release
        for reason in each.verdict.reasons
    ]
    against = (*reasons, *failed)
    kept = [f"{e.title}: {reason}" for e in measured for reason in e.verdict.reasons]
    return LearningReport(
        recipe=recipe,
        reviewed_set=reviewed_set,
        released=not against,
        reasons=against or tuple(kept),
        counts=counts,
        sections=tuple(_section(each, topics) for each in measured),
    )


def _section(measured: Measured, topics: Topics) -> ReportSection:
    outcome = measured.outcome
    return ReportSection(
        title=measured.title,
        conversations=outcome.figures[-1].conversations,
        changes=changes(outcome, measured.topics),
        sides=tuple(_sides(outcome, topics)[:MAX_ANSWERS]),
        checks=measured.verdict.checks,
        judgement=judgement_lines(outcome.judgement) if outcome.judgement else (),
        notes=tuple(notes(outcome)),
    )


def _sides(outcome: EvaluationOutcome, topics: Topics) -> list[Side]:
    """Return the answers of both models to each prompt, those that differ first."""
    roles = compared_roles(outcome)
    if roles is None:
        return []
    before, after = (_answers(outcome, role) for role in roles)
    judged = {p.prompt_id: p for p in outcome.judgement.pairs} if outcome.judgement else {}
    sides = [
        Side(
            topic=topics.of([answer.prompt]),
            prompt=answer.prompt,
            before=before[id_].text,
            after=answer.text,
            judged=_preferred(judged.get(id_), outcome.judgement),
        )
        for id_, answer in after.items()
        if id_ in before
    ]
    return sorted(sides, key=lambda side: side.before == side.after)


def _answers(outcome: EvaluationOutcome, role: str) -> dict[str, ModelAnswer]:
    return {answer.prompt_id: answer for answer in outcome.answers if answer.role == role}


def _preferred(pair: JudgedPair | None, judgement: PairwiseJudgement | None) -> str | None:
    if pair is None or judgement is None or pair.winner is None:
        return None
    if pair.winner == "tie":
        return "The judge's verdict turned with the order." if pair.turned else "A tie."
    return (
        "The judge prefers the new model."
        if pair.winner == "after"
        else "The judge prefers the release."
    )
