"""What one run of `learn` has found: why its model is released or not, what changed. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.core.evaluation.figures import EvaluationOutcome, ModelAnswer, compared_roles
from tasks.core.evaluation.gate import GateCheck, GateVerdict
from tasks.core.evaluation.judgement import JudgedPair, PairwiseJudgement
from tasks.core.evaluation.judgement_text import judgement_lines
from tasks.core.evaluation.summary import notes
from tasks.core.learning.changes import TopicChange, changes
from tasks.core.learning.topics import Topics

MOST_ANSWERS = 12
"""Answers side by side on the page, of each measurement."""


@dataclass(frozen=True)
class Measured:
    """One set of conversations that both models were measured with, and the verdict over it.

    topics has the topic of each record of the file, by its position.
    """

    title: str
    outcome: EvaluationOutcome
    verdict: GateVerdict
    topics: Mapping[int, str]


@dataclass(frozen=True)
class Material:
    """What was learned from: how many reviewed answers, how many of them for the first time."""

    answers: int
    new: int
    conversations: int
    held_out: int
    preferences: int


@dataclass(frozen=True)
class Side:
    """One question, and what the release and the new model answer."""

    topic: str
    prompt: str
    before: str
    after: str
    judged: str | None


@dataclass(frozen=True)
class Part:
    """What one measurement shows."""

    title: str
    conversations: int
    changes: tuple[TopicChange, ...]
    sides: tuple[Side, ...]
    checks: tuple[GateCheck, ...]
    judgement: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Lesson:
    """The whole page: one of these for each decision. `reviewed_set` is the artifact's name."""

    recipe: str
    reviewed_set: str
    released: bool
    reasons: tuple[str, ...]
    material: Material
    parts: tuple[Part, ...]

    @property
    def headline(self) -> str:
        """Return the decision in a few words."""
        return "Released" if self.released else "Not released"


def lesson(
    recipe: str,
    reviewed_set: str,
    material: Material,
    measured: Sequence[Measured],
    topics: Topics,
    *,
    reasons: Sequence[str] = (),
) -> Lesson:
    """Return what the measurements come to: released where all verdicts allow it.

    `reasons` are further ones against the release.
    """
    failed = [
        f"{each.title}: {reason}"
        for each in measured
        if not each.verdict.allows_release
        for reason in each.verdict.reasons
    ]
    against = (*reasons, *failed)
    kept = [f"{e.title}: {reason}" for e in measured for reason in e.verdict.reasons]
    return Lesson(
        recipe=recipe,
        reviewed_set=reviewed_set,
        released=not against,
        reasons=against or tuple(kept),
        material=material,
        parts=tuple(_part(each, topics) for each in measured),
    )


def _part(measured: Measured, topics: Topics) -> Part:
    outcome = measured.outcome
    return Part(
        title=measured.title,
        conversations=outcome.figures[-1].conversations,
        changes=changes(outcome, measured.topics),
        sides=tuple(_sides(outcome, topics)[:MOST_ANSWERS]),
        checks=measured.verdict.checks,
        judgement=judgement_lines(outcome.judgement) if outcome.judgement else (),
        notes=tuple(notes(outcome)),
    )


def _sides(outcome: EvaluationOutcome, topics: Topics) -> list[Side]:
    """Return the answers of both models to each prompt; those that differ come first."""
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
