"""The report: one HTML page that stands alone, and the same figures as markdown. Pure text."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tasks.core.evaluation.figures import Answer, Comparison, Figures, Outcome
from tasks.core.evaluation.gate import Verdict
from tasks.core.evaluation.judged_words import judgement_lines, plain_judgement
from tasks.core.evaluation.judgement import JudgedPair
from tasks.core.evaluation.numbers import change, memory, number
from tasks.core.evaluation.pictures import bars, curve
from tasks.core.progress import duration

_TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class LineageRow:
    """One stage of the lifecycle, as the page tells it: what it made, and what that took."""

    stage: str
    source: str
    digest: str
    wall_s: float
    peak_memory_bytes: int
    cached: bool


@dataclass(frozen=True)
class Step:
    """A model of the chain beside one that it is held against."""

    before: Figures
    after: Figures
    comparison: Comparison | None

    @property
    def perplexity_change(self) -> str:
        """The change of perplexity in words."""
        return change(1.0, self.after.perplexity_ratio_to(self.before))


@dataclass(frozen=True)
class PromptAnswers:
    """One prompt and what each model of the chain answers."""

    prompt: str
    answers: tuple[Answer, ...]
    judged: JudgedPair | None = None


def render_html(
    title: str,
    outcome: Outcome,
    verdict: Verdict,
    lineage: Sequence[LineageRow] = (),
    *,
    losses: Sequence[tuple[int, float]] = (),
    validation: Sequence[tuple[int, float]] = (),
) -> str:
    """Return the page; `losses` are the logged steps of the fine-tune with their losses.

    `validation` are the steps after which the validation share was measured, with its losses.
    Every text of a model or a user is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, memory=memory, duration=duration)
    drawn = {
        name: [(step, loss) for step, loss in points if math.isfinite(loss)]
        for name, points in (("training", losses), ("validation", validation))
    }
    curves = {name: points for name, points in drawn.items() if points}
    perplexities = [(figures.role, figures.perplexity) for figures in outcome.figures]
    return environment.get_template(_TEMPLATE).render(
        title=title,
        outcome=outcome,
        released=outcome.figures[-1],
        verdict=verdict,
        headline=headline(verdict),
        notes=notes(outcome),
        steps=steps(outcome),
        prompts=by_prompt(outcome),
        judged=judgement_lines(outcome.judgement) if outcome.judgement else (),
        lineage=lineage,
        bars=Markup(bars(perplexities)),  # noqa: S704 - pictures escape what they write
        curve=Markup(curve(curves, "Loss of the fine-tune")) if curves else None,  # noqa: S704
        validated="validation" in curves,
    )


def render_markdown(outcome: Outcome, verdict: Verdict) -> str:
    """Return verdict and figures as markdown, for a Prefect artifact and the terminal."""
    lines = [f"**{headline(verdict)}.**", "", *(f"- {reason}" for reason in verdict.reasons)]
    if verdict.forced is not None:
        lines.append(f"- the reason given: {verdict.forced}")
    for note in notes(outcome):
        lines += ["", f"**Held-out data:** {note}"]
    lines += [
        "",
        "| model | perplexity, token | perplexity, byte | reads, tokens/s | peak memory |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {f.role} | {number(f.perplexity)} | {number(f.perplexity_per_byte)} "
        f"| {f.tokens_per_s:,.0f} | {memory(f.peak_memory_bytes)} |"
        for f in outcome.figures
    ]
    lines += [
        "",
        "| from | to | change of perplexity | KL divergence, nats | same top token |",
        "|---|---|---:|---:|---:|",
        *(_markdown_row(step) for step in steps(outcome)),
    ]
    if outcome.benchmarks:
        lines += ["", "| benchmark | model | metric | value |", "|---|---|---|---:|"]
        lines += [
            f"| {b.task} | {b.role} | {b.metric} | {b.value:.4f}"
            + (f" ± {b.stderr:.4f} |" if b.stderr is not None else " |")
            for b in outcome.benchmarks
        ]
    if outcome.judgement is not None:
        lines += ["", *(f"- {line}" for line in judgement_lines(outcome.judgement))]
    return "\n".join(lines) + "\n"


def notes(outcome: Outcome) -> list[str]:
    """Return what a reader must know of the held-out conversations, in sentences."""
    found, told = outcome.held_out, []
    if found is not None and found.set_aside:
        faults = ", ".join(f"{count} {fault}" for fault, count in found.set_aside.items())
        told.append(
            f"{sum(found.set_aside.values())} of {found.records} held-out records are set aside, "
            f"as a training would: {faults}. The first: {found.first_set_aside[0]}."
        )
    leaks = outcome.leaks
    if leaks is not None and leaks.count:
        meaning = (
            "The figures say nothing about conversations that are new to the model."
            if leaks.whole
            else "On these, a model is better than on new ones: take them out of one of the files."
        )
        told.append(f"{leaks}. {meaning} The first: {leaks.first[0]}.")
    return told


def plain_figures(outcome: Outcome, verdict: Verdict) -> dict[str, object]:
    """Return verdict and figures as plain values for a program: all that the page shows.

    Perplexities stand beside the sums that they are made of, and units are in the names. The KL
    divergence is None where the tokens differ; an agreement is a share of 1.
    """
    figures = []
    for measured in outcome.figures:
        plain = measured.model_dump(mode="json", exclude={"reads"})
        plain["reads_tokens_per_s"] = plain.pop("tokens_per_s")
        figures.append(
            plain
            | {
                "perplexity_per_token": measured.perplexity,
                "perplexity_per_byte": measured.perplexity_per_byte,
                "writes_tokens_per_s": outcome.generated_per_s(measured.role),
            }
        )
    return {
        "outcome": {
            **outcome.model_dump(mode="json", exclude={"figures", "comparisons"}),
            "judgement": plain_judgement(outcome.judgement) if outcome.judgement else None,
            "figures": figures,
            "comparisons": [_plain_step(step) for step in steps(outcome)],
        },
        "verdict": verdict.model_dump(mode="json"),
    }


def _plain_step(step: Step) -> dict[str, object]:
    found = step.comparison
    return {
        "before": step.before.role,
        "after": step.after.role,
        "tokens": found.tokens if found else None,
        "perplexity_ratio": step.after.perplexity_ratio_to(step.before),
        "kl_divergence_nats": found.kl_divergence_nats if found else None,
        "top1_agreement": found.top1_agreement if found else None,
    }


def headline(verdict: Verdict) -> str:
    """Return the verdict in a few words."""
    if verdict.passed:
        if any(check.applies for check in verdict.checks):
            return "Gate passed"
        return f"Measured; no limit {'applies' if verdict.checks else 'was set'}"
    if verdict.forced is not None:
        return "Gate failed; released by force"
    return "Gate failed: not published, not served"


def steps(outcome: Outcome) -> list[Step]:
    """Return every model with those that it is held against: first the chain, then the release."""
    chain = [figures for figures in outcome.figures if figures.role != "release before"]
    pairs = list(itertools.pairwise(chain))
    earlier = outcome.of("release before")
    if earlier is not None:
        pairs.append((earlier, chain[-1]))
    return [
        Step(before, after, outcome.between(before.role, after.role)) for before, after in pairs
    ]


def by_prompt(outcome: Outcome) -> list[PromptAnswers]:
    """Return the answers grouped by prompt, each group in the order of the chain."""
    groups: dict[str, list[Answer]] = {}
    for answer in outcome.answers:
        groups.setdefault(answer.prompt, []).append(answer)
    pairs = outcome.judgement.pairs if outcome.judgement else ()
    judged = {pair.prompt_id: pair for pair in pairs}
    return [
        PromptAnswers(prompt, tuple(answers), judged.get(answers[0].prompt_id))
        for prompt, answers in groups.items()
    ]


def _markdown_row(step: Step) -> str:
    found = step.comparison
    distance = f"{found.kl_divergence_nats:.4f} | {found.top1_agreement:.1%}" if found else "- | -"
    return f"| {step.before.role} | {step.after.role} | {step.perplexity_change} | {distance} |"
