"""The figures of an evaluation as Markdown for people and as plain values for programs. Pure."""

import itertools
from dataclasses import dataclass

from tasks.core.evaluation.figures import Comparison, EvaluationOutcome, Figures
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.evaluation.judgement_text import judgement_lines, plain_judgement
from tasks.core.evaluation.numbers import change, memory, number


@dataclass(frozen=True)
class ComparedModels:
    """A model of the chain and one that it is compared with."""

    before: Figures
    after: Figures
    comparison: Comparison | None

    @property
    def perplexity_change(self) -> str:
        """The change of perplexity, for a person."""
        return change(1.0, self.after.perplexity_ratio_to(self.before))


def headline(verdict: GateVerdict) -> str:
    """Return the verdict in a few words."""
    if verdict.passed:
        if any(check.applies for check in verdict.checks):
            return "Gate passed"
        return f"Measured; no limit {'applies' if verdict.checks else 'was set'}"
    if verdict.forced is not None:
        return "Gate failed; released by force"
    return "Gate failed: not published, not served"


def notes(outcome: EvaluationOutcome) -> list[str]:
    """Return what a reader must know about the held-out conversations, in sentences."""
    found, sentences = outcome.held_out, []
    if found is not None and found.set_aside:
        faults = ", ".join(f"{count} {fault}" for fault, count in found.set_aside.items())
        sentences.append(
            f"{sum(found.set_aside.values())} of {found.records} held-out records are set aside, "
            f"as in training: {faults}. The first: {found.first_set_aside[0]}."
        )
    leaks = outcome.leaks
    if leaks is not None and leaks.count:
        meaning = (
            "The figures say nothing about conversations that are new to the model."
            if leaks.whole
            else "A model does better on these than on new ones: remove them from one of the files."
        )
        sentences.append(f"{leaks}. {meaning} The first: {leaks.first[0]}.")
    return sentences


def compared_models(outcome: EvaluationOutcome) -> list[ComparedModels]:
    """Return each model beside the one before it, then the last one beside the release."""
    chain = [figures for figures in outcome.figures if figures.role != "release before"]
    pairs = list(itertools.pairwise(chain))
    earlier = outcome.of("release before")
    if earlier is not None:
        pairs.append((earlier, chain[-1]))
    return [
        ComparedModels(before, after, outcome.between(before.role, after.role))
        for before, after in pairs
    ]


def summary_markdown(outcome: EvaluationOutcome, verdict: GateVerdict) -> str:
    """Return verdict and figures as Markdown, for a Prefect artifact and the terminal."""
    lines = [f"**{headline(verdict)}.**", "", *(f"- {reason}" for reason in verdict.reasons)]
    if verdict.forced is not None:
        lines.append(f"- reason given: {verdict.forced}")
    for note in notes(outcome):
        lines += ["", f"**Held-out data:** {note}"]
    lines += ["", *_figures_table(outcome), "", *_comparisons_table(outcome)]
    if outcome.benchmarks:
        lines += ["", *_benchmarks_table(outcome)]
    if outcome.judgement is not None:
        lines += ["", *(f"- {line}" for line in judgement_lines(outcome.judgement))]
    return "\n".join(lines) + "\n"


def _figures_table(outcome: EvaluationOutcome) -> list[str]:
    return [
        "| model | per-token perplexity | per-byte perplexity | scoring, tokens/s | peak memory |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {f.role} | {number(f.perplexity)} | {number(f.perplexity_per_byte)} "
            f"| {f.tokens_per_s:,.0f} | {memory(f.peak_memory_bytes)} |"
            for f in outcome.figures
        ),
    ]


def _comparisons_table(outcome: EvaluationOutcome) -> list[str]:
    return [
        "| from | to | change of perplexity | KL divergence, nats | top-1 agreement |",
        "|---|---|---:|---:|---:|",
        *(_markdown_row(step) for step in compared_models(outcome)),
    ]


def _benchmarks_table(outcome: EvaluationOutcome) -> list[str]:
    return [
        "| benchmark | model | metric | value |",
        "|---|---|---|---:|",
        *(
            f"| {b.task} | {b.role} | {b.metric} | {b.value:.4f}"
            + (f" ± {b.stderr:.4f} |" if b.stderr is not None else " |")
            for b in outcome.benchmarks
        ),
    ]


def plain_figures(outcome: EvaluationOutcome, verdict: GateVerdict) -> dict[str, object]:
    """Return verdict and figures as plain values for a program: everything that the page shows.

    Perplexities come with the sums that they are computed from; names contain the units. The KL
    divergence is None where the tokens differ; an agreement is a fraction.
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
            "comparisons": [_plain_step(step) for step in compared_models(outcome)],
        },
        "verdict": verdict.model_dump(mode="json"),
    }


def _plain_step(step: ComparedModels) -> dict[str, object]:
    found = step.comparison
    return {
        "before": step.before.role,
        "after": step.after.role,
        "tokens": found.tokens if found else None,
        "perplexity_ratio": step.after.perplexity_ratio_to(step.before),
        "kl_divergence_nats": found.kl_divergence_nats if found else None,
        "top1_agreement": found.top1_agreement if found else None,
    }


def _markdown_row(step: ComparedModels) -> str:
    found = step.comparison
    distance = f"{found.kl_divergence_nats:.4f} | {found.top1_agreement:.1%}" if found else "- | -"
    return f"| {step.before.role} | {step.after.role} | {step.perplexity_change} | {distance} |"
