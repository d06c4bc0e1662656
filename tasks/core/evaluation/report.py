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


def render_html(
    title: str,
    outcome: Outcome,
    verdict: Verdict,
    lineage: Sequence[LineageRow] = (),
    losses: Sequence[tuple[int, float]] = (),
) -> str:
    """Return the page; `losses` are the steps of the fine-tune with their losses.

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
    drawn = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    perplexities = [(figures.role, figures.perplexity) for figures in outcome.figures]
    return environment.get_template(_TEMPLATE).render(
        title=title,
        outcome=outcome,
        released=outcome.figures[-1],
        verdict=verdict,
        headline=headline(verdict),
        steps=steps(outcome),
        prompts=by_prompt(outcome),
        lineage=lineage,
        bars=Markup(bars(perplexities)),  # noqa: S704 - pictures escape what they write
        curve=Markup(curve(drawn, "Loss of the fine-tune")) if drawn else None,  # noqa: S704
    )


def render_markdown(outcome: Outcome, verdict: Verdict) -> str:
    """Return verdict and figures as markdown, for a Prefect artifact and the terminal."""
    lines = [f"**{headline(verdict)}.**", "", *(f"- {reason}" for reason in verdict.reasons)]
    if verdict.forced is not None:
        lines.append(f"- the reason given: {verdict.forced}")
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
    return "\n".join(lines) + "\n"


def plain_figures(outcome: Outcome, verdict: Verdict) -> dict[str, object]:
    """Return verdict and figures as plain values for a program: all that the page shows.

    Perplexities stand beside the sums that they are made of, and units are in the names. The KL
    divergence is None where the tokens differ; an agreement is a share of 1.
    """
    figures = []
    for measured in outcome.figures:
        plain = measured.model_dump(mode="json")
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
    return [PromptAnswers(prompt, tuple(answers)) for prompt, answers in groups.items()]


def _markdown_row(step: Step) -> str:
    found = step.comparison
    distance = f"{found.kl_divergence_nats:.4f} | {found.top1_agreement:.1%}" if found else "- | -"
    return f"| {step.before.role} | {step.after.role} | {step.perplexity_change} | {distance} |"
