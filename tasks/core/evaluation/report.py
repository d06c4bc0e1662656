"""The report: one stand-alone HTML page with everything that an evaluation measured. Pure text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tasks.core.evaluation.charts import bars, curve
from tasks.core.evaluation.figures import EvaluationOutcome, ModelAnswer
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.evaluation.judgement import JudgedPair
from tasks.core.evaluation.judgement_text import judgement_lines
from tasks.core.evaluation.numbers import memory, number
from tasks.core.evaluation.summary import compared_models, headline, notes
from tasks.core.progress import duration

_TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class LineageRow:
    """One stage of the lifecycle: its result, and the time and memory that it took."""

    stage: str
    source: str
    digest: str
    wall_s: float
    peak_memory_bytes: int
    cached: bool


@dataclass(frozen=True)
class PromptAnswers:
    """One prompt and what each model of the chain answers."""

    prompt: str
    answers: tuple[ModelAnswer, ...]
    judged: JudgedPair | None = None


def report_html(
    title: str,
    outcome: EvaluationOutcome,
    verdict: GateVerdict,
    lineage: Sequence[LineageRow] = (),
    *,
    losses: Sequence[tuple[int, float]] = (),
    validation: Sequence[tuple[int, float]] = (),
) -> str:
    """Return the page. Every text of a model or a user is escaped.

    losses: the logged steps of the fine-tune with their losses; validation: the steps at which the
    validation share was measured, with its losses.
    """
    curves = _finite(training=losses, validation=validation)
    perplexities = [(figures.role, figures.perplexity) for figures in outcome.figures]
    return (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            title=title,
            outcome=outcome,
            released=outcome.figures[-1],
            verdict=verdict,
            headline=headline(verdict),
            notes=notes(outcome),
            steps=compared_models(outcome),
            prompts=by_prompt(outcome),
            judged=judgement_lines(outcome.judgement) if outcome.judgement else (),
            lineage=lineage,
            bars=Markup(bars(perplexities)),  # noqa: S704 - charts escape their texts
            curve=Markup(curve(curves, "Loss of the fine-tune")) if curves else None,  # noqa: S704
            validated="validation" in curves,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, memory=memory, duration=duration)
    return environment


def _finite(**curves: Sequence[tuple[int, float]]) -> dict[str, list[tuple[int, float]]]:
    """Return the finite points of each curve, without curves that have none."""
    finite = {
        name: [(step, loss) for step, loss in points if math.isfinite(loss)]
        for name, points in curves.items()
    }
    return {name: points for name, points in finite.items() if points}


def by_prompt(outcome: EvaluationOutcome) -> list[PromptAnswers]:
    """Return the answers grouped by prompt, each group in the order of the chain."""
    groups: dict[str, list[ModelAnswer]] = {}
    for answer in outcome.answers:
        groups.setdefault(answer.prompt, []).append(answer)
    pairs = outcome.judgement.pairs if outcome.judgement else ()
    judged = {pair.prompt_id: pair for pair in pairs}
    return [
        PromptAnswers(prompt, tuple(answers), judged.get(answers[0].prompt_id))
        for prompt, answers in groups.items()
    ]
