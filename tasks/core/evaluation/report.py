"""The report: one HTML page that stands alone, and the same figures as markdown. Pure text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.core.evaluation.figures import Answer, Outcome
from tasks.core.evaluation.gate import Verdict

_TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class LineageRow:
    """One stage of the lifecycle, as the page tells it."""

    stage: str
    source: str
    digest: str


@dataclass(frozen=True)
class PromptAnswers:
    """One prompt and what each model of the chain answers."""

    prompt: str
    answers: tuple[Answer, ...]


def render_html(
    title: str, outcome: Outcome, verdict: Verdict, lineage: Sequence[LineageRow]
) -> str:
    """Return the page. Every text of a model or a user is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        title=title,
        outcome=outcome,
        verdict=verdict,
        lineage=lineage,
        prompts=by_prompt(outcome),
        bar_percent=_bar_percents(outcome),
    )


def render_markdown(outcome: Outcome, verdict: Verdict) -> str:
    """Return verdict and figures as markdown, for a Prefect artifact and the model card."""
    head = "**Gate passed.**" if verdict.passed else "**Gate failed: not published, not served.**"
    lines = [head, "", *(f"- {reason}" for reason in verdict.reasons), ""]
    lines += [
        "| model | perplexity, token | perplexity, byte | KL to the one before | same top token |",
        "|---|---:|---:|---:|---:|",
    ]
    for figures in outcome.figures:
        step = next((c for c in outcome.comparisons if c.after == figures.role), None)
        kl = f"{step.kl_divergence_nats:.4f}" if step else "-"
        agreement = f"{step.top1_agreement:.1%}" if step else "-"
        lines.append(
            f"| {figures.role} | {figures.perplexity:,.2f} | {figures.perplexity_per_byte:.3f} "
            f"| {kl} | {agreement} |"
        )
    return "\n".join(lines) + "\n"


def by_prompt(outcome: Outcome) -> list[PromptAnswers]:
    """Return the answers grouped by prompt, each group in the order of the chain."""
    groups: dict[str, list[Answer]] = {}
    for answer in outcome.answers:
        groups.setdefault(answer.prompt, []).append(answer)
    return [PromptAnswers(prompt, tuple(answers)) for prompt, answers in groups.items()]


def _bar_percents(outcome: Outcome) -> dict[str, float]:
    """Return the length of each model's bar: the logarithm of its perplexity, in percent."""
    logs = {f.role: math.log(max(f.perplexity, 1.0)) for f in outcome.figures}
    finite = {role: min(value, 700.0) for role, value in logs.items()}
    longest = max(finite.values()) or 1.0
    return {role: max(1.0, 100.0 * value / longest) for role, value in finite.items()}
